"""What no module may do, read from the source: run what others wrote, or show what only its owner may see.

bandit looks for the usual (`make check`); these rules are about this code. An engine for rules, as semgrep,
would bring 360 MB into each environment for what the standard library's parser can say.
"""

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.support import ROOT
from tests.support.house import House

HOUSE = House(ROOT)

ALLOWED = {
    ("gpu_tasks.probes.convert", "imports pickle"): "for the name of its error",
    ("queue_app.coordination.embedded_server", "shows self.password"): "the address of the server, made here",
    ("queue_app.coordination.embedded_server", "shows address.password"): "the server's own configuration",
}
"""(module, finding) -> why it is right there."""

PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
SECRETS = {"url", "broker_url", "server_url", "broker", "password"}
SHOWN_BY = {"print", "say", "echo", "secho", "debug", "info", "warning", "error", "exception", "critical"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def options(call: ast.Call) -> dict[str, str]:
    return {word.arg or "**": ast.unparse(word.value) for word in call.keywords}


def pickles(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        yield from (f"imports {name}" for name in names if name.partition(".")[0] in PICKLES)
    for name, call in calls(tree):
        if options(call).get("allow_pickle", "False") != "False":
            yield f"{name} reads a pickle"
        if name == "torch.load" and options(call).get("weights_only") != "True":
            yield "torch.load without weights_only=True"


def code_of_models(tree: ast.AST) -> Iterator[str]:
    """trust_remote_code, also as a key of options, and models opened without what forbids to fetch."""
    for name, call in calls(tree):
        if name.endswith(".from_pretrained") and options(call).get("**") != "LOCAL":
            yield f"{name} without **LOCAL"
        if options(call).get("trust_remote_code", "False") != "False":
            yield f"{name} trusts remote code"
    for node in ast.walk(tree):
        for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
            is_text_or_no = isinstance(value, ast.Constant) and value.value is not True
            if isinstance(key, ast.Constant) and key.value == "trust_remote_code" and not is_text_or_no:
                yield "options that trust remote code"


def run_text(tree: ast.AST) -> Iterator[str]:
    for name, _ in calls(tree):
        if name in {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"}:
            yield f"calls {name}"


def yaml_with_tags(tree: ast.AST) -> Iterator[str]:
    """Of the readers of YAML, safe_load alone builds nothing but plain values."""
    for name, _ in calls(tree):
        if name.partition(".")[0] == "yaml" and "load" in name and name != "yaml.safe_load":
            yield f"calls {name}"


def shells(tree: ast.AST) -> Iterator[str]:
    for name, call in calls(tree):
        if name in SHELLS or options(call).get("shell", "False") != "False":
            yield f"{name} starts a shell"


def guessed_files(tree: ast.AST) -> Iterator[str]:
    for name, _ in calls(tree):
        if name.endswith("mktemp"):
            yield f"calls {name}"


def unpacked_archives(tree: ast.AST) -> Iterator[str]:
    """Members of an archive are read, and never written under the names that it gives them."""
    for name, _ in calls(tree):
        if name.endswith((".extractall", ".extract", "unpack_archive")):
            yield f"calls {name}"


def unverified_servers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"CERT_NONE", "_create_unverified_context"}:
            yield f"uses {node.attr}"
    for name, call in calls(tree):
        if {options(call).get(word) for word in ("verify", "check_hostname", "ssl_check_hostname")} & {
            "False"
        }:
            yield f"{name} verifies no server"


def shown_secrets(tree: ast.AST) -> Iterator[str]:
    """Addresses carry a password: they are shown by without_password(...) alone, in texts as in logs."""
    masks = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "without_password"]
    within = {id(node) for mask in masks for node in ast.walk(mask)}
    shown = [n.value for n in ast.walk(tree) if isinstance(n, ast.FormattedValue) and id(n) not in within]
    for name, call in calls(tree):
        if name.rpartition(".")[2] in SHOWN_BY:
            shown += call.args
        elif name.endswith(".format"):
            shown += [*call.args, *(word.value for word in call.keywords)]
    for value in shown:
        last = (
            value.attr
            if isinstance(value, ast.Attribute)
            else value.id
            if isinstance(value, ast.Name)
            else ""
        )
        if last in SECRETS:
            yield f"shows {ast.unparse(value)}"


Rule = Callable[[ast.AST], Iterator[str]]
RULES: dict[Rule, tuple[str, str]] = {
    pickles: (
        """
        import pickle
        import dill as d
        from marshal import loads
        np.load(path, allow_pickle=True)
        np.load(path, allow_pickle=asked)
        torch.load(path)
        torch.load(path, weights_only=False)
        """,
        """
        import json
        np.load(path, allow_pickle=False)
        torch.load(path, weights_only=True, mmap=True)
        """,
    ),
    code_of_models: (
        """
        AutoModel.from_pretrained(folder)
        AutoModel.from_pretrained(folder, **LOCAL, trust_remote_code=True)
        from_config(config, trust_remote_code=asked)
        x = {"trust_remote_code": True}
        x = {"trust_remote_code": asked}
        """,
        """
        AutoModel.from_pretrained(folder, **LOCAL)
        x = {"trust_remote_code": False}
        x = {"trust_remote_code": "code that a model directory brings is never run"}
        """,
    ),
    run_text: (
        """
        eval(text)
        exec(text)
        compile(text, "", "exec")
        __import__(name)
        """,
        """
        model.eval()
        re.compile(text)
        client.eval(script, 0)
        """,
    ),
    yaml_with_tags: (
        """
        yaml.load(text, Loader)
        yaml.unsafe_load(text)
        yaml.full_load(text)
        """,
        "yaml.safe_load(text)",
    ),
    shells: (
        """
        subprocess.run(line, shell=True)
        subprocess.Popen(line, shell=asked)
        subprocess.getoutput(line)
        os.system(line)
        """,
        """
        subprocess.run([program, line])
        subprocess.Popen(command, shell=False)
        """,
    ),
    guessed_files: (
        """
        tempfile.mktemp()
        mktemp()
        """,
        """
        tempfile.mkstemp()
        tempfile.mkdtemp()
        """,
    ),
    unpacked_archives: (
        """
        archive.extractall(folder)
        archive.extract(member)
        shutil.unpack_archive(path)
        """,
        """
        archive.extractfile(member)
        archive.open(member)
        """,
    ),
    unverified_servers: (
        """
        context.verify_mode = ssl.CERT_NONE
        ssl._create_unverified_context()
        get(url, verify=False)
        Redis(ssl_check_hostname=False)
        """,
        """
        context.verify_mode = ssl.CERT_REQUIRED
        get(url)
        get(url, verify=True)
        """,
    ),
    shown_secrets: (
        """
        f"{broker_url} is gone"
        f"{config.broker_url!r}"
        log.info("at %s", self.url)
        print(server_url)
        "{}".format(url)
        say(broker)
        """,
        """
        f"{without_password(url)} is gone"
        connect(config.broker_url)
        print(without_password(url))
        """,
    ),
}
"""Rule -> what it must find, each line by itself, and what it must let pass."""


def lines(of: int) -> list[tuple[Rule, str]]:
    return [(rule, line.strip()) for rule, texts in RULES.items() for line in texts[of].strip().splitlines()]


@pytest.mark.parametrize("rule", list(RULES), ids=lambda rule: rule.__name__)
def test_no_module_does_what_is_forbidden(rule: Rule) -> None:
    found = {(module.name, finding) for module in HOUSE.modules.values() for finding in rule(module.tree)}
    assert found - ALLOWED.keys() == set()


def test_every_exception_is_still_needed() -> None:
    found = {
        (module.name, finding)
        for module in HOUSE.modules.values()
        for rule in RULES
        for finding in rule(module.tree)
    }
    assert ALLOWED.keys() - found == set()


@pytest.mark.parametrize(("rule", "caught"), lines(0))
def test_a_rule_finds_what_it_forbids(rule: Rule, caught: str) -> None:
    assert list(rule(ast.parse(caught)))


@pytest.mark.parametrize(("rule", "right"), lines(1))
def test_a_rule_lets_pass_what_is_right(rule: Rule, right: str) -> None:
    assert list(rule(ast.parse(right))) == []
