#!/bin/sh
# as_user.sh ROLE COMMAND …: runs it as the role's user of the server (users.acl) at REDIS_ADDRESS, with the password
# in /run/secrets/ROLE. So it stands in no argument, and in nothing that `docker inspect` shows.
set -eu
role=$1
shift
password=$(cat "${SECRETS:-/run/secrets}/$role")
export HOLDFAST_BROKER_URL="redis://hf-$role:$password@${REDIS_ADDRESS:?HOST:PORT}/0"
exec "$@"
