#!/bin/sh
# Prints users.acl as Redis loads it. PASSWORDS is a directory with a file per role (worker, producer, status,
# operator, flower, admin) that holds its password, such as /run/secrets:
#
#   sh deploy/redis/users.sh PASSWORDS > /etc/redis/users.acl
#
# A role whose password is missing or empty is left out, with a line on the error output.
set -eu
passwords=${1:?the directory with a password file per role}
users=${2:-$(dirname "$0")/users.acl}

# Redis wants a user in one line, and knows no comments.
joined() {
    awk '/^#/ || /^$/ { next }
         /^user/ { if (user) print user; user = $0; next }
         { sub(/^ +/, " "); user = user $0 }
         END { print user }' "$users"
}

sha256() {
    printf %s "$1" | sha256sum | cut -d ' ' -f 1
}

joined | while read -r line; do
    role=$(printf %s "$line" | sed -n 's/.*#<\([a-z]*\)>.*/\1/p')
    # The line break that an editor puts at the end of the file is no part of the password.
    password=$(cat "$passwords/$role" 2>/dev/null || true)
    if [ -z "$role" ]; then
        printf '%s\n' "$line"
    elif [ -n "$password" ]; then
        printf '%s\n' "$line" | sed "s/#<$role>/#$(sha256 "$password")/"
    else
        echo "no password in $passwords/$role: its user is left out" >&2
    fi
done
