"""The run card for programs: `<output>.card.json`, whose keys docs/file_formats.md explains."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from queue_app.job.output_names import output_format
from queue_app.job.output_place import CARD_SCHEMA
from queue_app.job.readouts import vector_dim
from queue_app.outputs.run_card.card import RunCard
from queue_app.outputs.run_card.model_name import title_of


def card_json(card: RunCard) -> dict[str, Any]:
    """The whole card. What changes a key's meaning raises CARD_SCHEMA; a new key does not."""
    job = card.job
    return {
        "schema": CARD_SCHEMA,
        "job": job.job_id,
        "job_digest": job.digest,
        "output": _output(card),
        "inputs": [asdict(file) for file in job.inputs],
        "model": asdict(job.model),
        "model_name": _model_name(card),
        "options": asdict(job.options),
        "threads": job.threads,
        "num_shards": len(job.shards),
        "reuse": asdict(job.reuse) if job.reuse else None,
        "notes": list(job.notes),
        "command": card.command,
        "counts": _counts(card),
        "quarantine": {
            "reasons": dict(card.counted.reasons),
            "first": [asdict(entry) for entry in card.quarantine],
        },
        "devices": [asdict(device) for device in card.devices],
        "kinds": [asdict(share) for share in card.kinds],
        "mixed_kinds": card.mixed_kinds or None,
        "independence": card.independence or None,
        "certificate": asdict(certificate) if (certificate := card.counted.certificate) else None,
        "throughput": asdict(card.throughput),
        "faults": asdict(card.faults),
        "versions": dict(card.versions),
        "written": {"host": card.written.host, "at": card.written.at},
        "methods": card.methods,
        "citations": [
            {"key": each.key, "reference": each.reference, "bibtex": each.bibtex} for each in card.citations
        ],
    }


def _model_name(card: RunCard) -> dict[str, str]:
    named = card.model_name
    title = title_of(card.job.model, named)
    return {"title": title, "name": named.name, "size": named.size, "known_by": named.evidence}


def _output(card: RunCard) -> dict[str, Any]:
    job = card.job
    return {
        "name": card.output,
        "files": dict(card.written.files),
        "content_digest": card.content_digest,
        "results_digest": card.results_digest,
        "columns": list(card.columns),
        "dim": vector_dim(job.model, job.options),
        "dtype": job.options.store_dtype,
        "precision": card.precision,
        **({"h5_layout": card.h5_layout} if output_format(Path(card.output)) == "h5" else {}),
    }


def _counts(card: RunCard) -> dict[str, int | None]:
    counts = card.job.counts
    return {
        "records": counts.num_records,
        "embedded": card.counted.num_embedded,
        "quarantined": card.num_quarantined,
        "longer_than_limit": card.counted.num_long,
        "duplicate_ids": counts.num_duplicate_ids,
        "duplicate_sequences": counts.num_duplicate_sequences,
        "computed_once": card.num_duplicates,
        "reused": card.num_reused,
    }
