"""The operating envelope as a table for a terminal: a view of the report's ``envelope``."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfm_deploy.report.tables import make_table
from lfm_deploy.verification.envelope_values import ConditionValues, EnvelopeValues, SetFigureName, SetFiguresValues

_COLUMNS: tuple[tuple[SetFigureName, str], ...] = (
    ("acc", "ACC %"),
    ("ap", "AP %"),
    ("acc_fake", "fakes found %"),
    ("fpr", "real called fake %"),
)
_COIN = 50.0
# Narrower terminals would break every cell of these.
_WIDTH_OF_WHAT, _WIDTH_OF_SETS = 120, 40
_WIDTH_OF_A_SET_CELL = 7
_WIDTH_OF_INTERVAL = len("95-100")


def print_envelope(values: EnvelopeValues, console: Console, *, title: str = "operating envelope of") -> None:
    """The figures after each condition, and for every test set what becomes of fakes and of real pictures.

    Args:
        values: figures, from ``Envelope.as_dict``.
        console: console to print to.
        title: words above the table, before the name of the engine.
    """
    console.print(_condition_table(values, console.width, title))
    _print_skipped(values, console)
    conditions = values["conditions"]
    if len(conditions[0]["sets"]) < 2:
        return
    if console.width < _WIDTH_OF_SETS + _WIDTH_OF_A_SET_CELL * len(conditions):
        console.print(Text("by test set: in the JSON", style="dim"))
        return
    console.print(_set_table(values, "acc_fake", "fakes found, %, by test set"))
    console.print(_set_table(values, "fpr", "real pictures called fake, %, by test set"))


def _condition_table(values: EnvelopeValues, width: int, title: str) -> Table:
    table = make_table(f"{values['suite']}: {title} {values['engine']}", "condition")
    for _, heading in _COLUMNS:
        table.add_column(heading, justify="right", min_width=5)
    table.add_column("pictures", justify="right")
    if width >= _WIDTH_OF_WHAT:
        table.add_column("what happened to the pictures")
    for row in values["conditions"]:
        cells = [_figure(row, key) for key, _ in _COLUMNS]
        what = [Text(row["what"], style="dim")] if width >= _WIDTH_OF_WHAT else []
        table.add_row(row["name"], *cells, str(row["pictures"]), *what)
    table.caption = (
        "ACC, AP, fakes found: means over test sets with both classes\n"
        "real called fake: of all real pictures\n"
        "red: most pictures of a class are decided wrong"
    )
    return table


def _set_table(values: EnvelopeValues, key: SetFigureName, title: str) -> Table:
    conditions = values["conditions"]
    table = make_table(title, "test set")
    for condition in conditions:
        table.add_column("\n".join(condition["name"].split()), justify="right")
    for index, part in enumerate(conditions[0]["sets"]):
        if any(condition["sets"][index][key] is not None for condition in conditions):
            table.add_row(part["set"], *(_figure(one["sets"][index], key, ".0f") for one in conditions))
    return table


def _print_skipped(values: EnvelopeValues, console: Console) -> None:
    for condition in values["conditions"]:
        if condition["skipped"]:
            first, *others = condition["reasons"]
            more = f"; and {len(others)} more reasons, in the JSON" if others else ""
            console.print(
                Text(
                    f"{condition['name']}: {condition['skipped']} pictures skipped, so its figures are of fewer: "
                    f"{first['pictures']} {first['reason']}{more}",
                    style="yellow",
                )
            )


def _figure(row: ConditionValues | SetFiguresValues, key: SetFigureName, form: str = ".1f") -> Text:
    estimate = row[key]
    if estimate is None:
        return Text("-")
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    wrong = (key == "acc_fake" and value < _COIN) or (key == "fpr" and value > _COIN)
    text = Text(f"{value:{form}}", style="bold red" if wrong else "")
    if low is not None and form == ".1f":
        interval = f"{low:.0f}-{high:.0f}"
        text.append(f" {interval:>{_WIDTH_OF_INTERVAL}}", style="not bold dim")
    return text
