"""choices.md: what a study or a federation file can name, from the tables; and the methods' table of methods.md."""

from importlib import import_module

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.bundle.card import tabulate
from prostafed.common.models import ENCODERS
from prostafed.common.ssl import METHODS
from prostafed.common.ssl.method import About
from prostafed.common.tasks import TASKS, build_task
from prostafed.simulations.datasets import DATASETS, load_dataset


def describe_choices() -> str:
    """Return the page."""
    tables = (
        ("Methods", "`method` of a pretraining stage. [Equations, and when to use which](methods.md).",
         ("method", "how it learns", "paper"),
         [(name, about.family, about.paper) for name, about in _read_abouts().items()]),
        ("Tasks", "`task` of a fine-tuning stage.",
         ("task", "what a radiologist annotates", "what the model says", "judged by"),
         [(name, entry.annotation, task.says, ", ".join(task.metrics))
          for name, entry in TASKS.items() for task in (build_task(name),)]),
        ("Encoders", "`encoder` of `[model]`.",
         ("encoder", "what it is", "most resolutions", "weights it can start from"),
         [(name, entry.description, str(entry.most_resolutions), ", ".join(entry.weights) or "-")
          for name, entry in ENCODERS.items()]),
        ("Aggregators", "`aggregate` of a stage. [Parameters](keys.md#parameters-of-the-aggregators).",
         ("aggregator", "what it does"), [(name, entry.about) for name, entry in AGGREGATORS.items()]),
        ("Data sets", "`source` of a site. `prostafed-sim datasets` says more.",
         ("source", "data set", "centres", "sequences", "licence"),
         [(each.name, each.title, ", ".join(each.centers) or "not told", ", ".join(each.sequences), each.licence)
          for each in map(load_dataset, DATASETS)]),
    )  # fmt: skip
    page = ["# What can be chosen", "For a researcher who writes a study."]
    for title, where, columns, rows in tables:
        page += [f"## {title}", where, tabulate(columns, [(f"`{name}`", *cells) for name, *cells in rows])]
    return "\n\n".join(page) + "\n"


def tabulate_methods() -> str:
    """Return the methods with their equations, and when to use which."""
    rows = [
        (f"`{name}`", about.paper, about.equation, f"`{METHODS[name].module.rpartition('.')[2]}.py`", about.when)
        for name, about in _read_abouts().items()
    ]
    return tabulate(("method", "paper", "equation", "file", "when to use it"), rows)


def _read_abouts() -> dict[str, About]:
    return {name: import_module(entry.module).ABOUT for name, entry in METHODS.items()}
