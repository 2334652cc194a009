"""Keep the templates in notebooks/ and runbooks/ free of outputs, which the record contains."""

from pathlib import PurePosixPath

MODELS = {"notebooks", "runbooks"}


def strip_outputs(model, path, contents_manager, **_):
    """Remove the outputs of a template when it is saved; the open page still shows them."""
    if model["type"] != "notebook" or not MODELS & set(PurePosixPath(path).parts[:-1]):
        return
    model["content"]["metadata"].pop("widgets", None)
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)


c = get_config()  # noqa: F821
c.ContentsManager.pre_save_hook = strip_outputs
