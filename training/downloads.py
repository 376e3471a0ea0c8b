"""The files of a snapshot, as pages and API hand them out."""

from __future__ import annotations

from django.http import FileResponse, Http404, StreamingHttpResponse

from training.models import Snapshot
from training.storage import StorageError, open_store


def snapshot_file(
    snapshot: Snapshot, name: str
) -> FileResponse | StreamingHttpResponse:
    """One file as it is, or the rows of train and eval as JSON lines or CSV."""
    stem, _, suffix = name.partition(".")
    is_converted = suffix in ("jsonl", "csv") and stem in ("train", "eval")
    stored = f"{stem}.parquet" if is_converted else name
    if stored not in [file["name"] for file in snapshot.files]:
        raise Http404("No such file.")
    try:
        file = open_store().open(f"{snapshot.uri}/{stored}")
    except StorageError as error:
        raise Http404(str(error)) from None
    shown = f"{snapshot.project.slug}-snapshot-{snapshot.pk}-{name}"
    if not is_converted:
        return FileResponse(file, as_attachment=True, filename=shown)
    # pyarrow is as much memory as the rest of the web process.
    from training.dataset_files import Format, as_lines

    return StreamingHttpResponse(
        as_lines(file, Format(suffix)),
        content_type="text/csv" if suffix == "csv" else "application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="{shown}"'},
    )
