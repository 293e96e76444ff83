"""What else a command may be called, and how each is used."""

from collections.abc import Mapping

_SAME = {
    "embed": "run start extract encode infer predict compute embeddings",
    "enqueue": "submit queue add push",
    "worker": "workers join",
    "resume": "continue restart recover retry",
    "status": "stats stat info show list ls jobs ps progress top",
    "status --watch": "watch follow tail",
    "cancel": "stop kill abort",
    "pause": "hold suspend",
    "unpause": "unhold go release",
    "dashboard": "ui gui web page serve view board monitor",
    "verify": "validate fsck checksum audit",
    "quarantine": "failed failures errors bad skipped rejected",
    "export": "write save dump",
    "map": "plot umap pca project",
    "index": "faiss search",
    "clean": "rm remove delete clear purge cleanup gc",
    "plan": "estimate dry-run dryrun cost preview",
    "doctor": "check diagnose env devices gpus selftest",
    "drain": "shutdown leave",
    "--help": "help",
    "--version": "version",
}
SAME: Mapping[str, str] = {word: command for command, words in _SAME.items() for word in words.split()}
"""A word -> the command that is meant by it."""

_JOB = "proteins.fasta -m facebook/esm2_t33_650M_UR50D -o out.h5"
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "embed": (
        f"holdfast embed {_JOB}",
        "holdfast embed texts.csv -m sentence-transformers/all-MiniLM-L6-v2 -o out.npy",
    ),
    "resume": ("holdfast resume out.h5",),
    "enqueue": (f"holdfast enqueue {_JOB} --broker-url redis://HOST:6379/0",),
    "worker": ("holdfast worker gpu0 gpu1 --broker-url redis://HOST:6379/0",),
    "drain": ("holdfast drain HOST --wait",),
    "key-file": ("holdfast key-file fleet.key",),
    "status": ("holdfast status out.h5", "holdfast status out.h5 --watch"),
    "dashboard": ("holdfast dashboard out.h5",),
    "quarantine": ("holdfast quarantine out.h5", "holdfast quarantine out.h5 --retry"),
    "pause": ("holdfast pause out.h5",),
    "unpause": ("holdfast unpause out.h5",),
    "cancel": ("holdfast cancel out.h5",),
    "plan": (f"holdfast plan {_JOB} --gpu-hour-cost 2.50",),
    "doctor": ("holdfast doctor", "holdfast doctor -m facebook/esm2_t33_650M_UR50D"),
    "convert": ("holdfast convert pickled-model",),
    "verify": ("holdfast verify out.h5",),
    "export": ("holdfast export out.h5 -o out.parquet",),
    "map": ("holdfast map out.h5 -o map.html",),
    "index": ("holdfast index out.h5",),
    "clean": ("holdfast clean out.h5",),
}
"""A command -> how it is called. A test runs each of them."""
