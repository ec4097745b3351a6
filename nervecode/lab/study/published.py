"""Published: the page of a plan whose settings others have published figures for."""

from __future__ import annotations

from collections.abc import Mapping

from nervecode.lab.results.published import published_table
from nervecode.lab.results.table import as_markdown
from nervecode.lab.study import side_tables
from nervecode.lab.study.plan import Plan
from nervecode.lab.study.study import Study

HEAD = """# {title}

`scripts/study.py` ran or read every setting below and wrote this page; figures "here" were not
typed. AUROC x100, higher is better, OOD is the positive class; a group is the unweighted mean over
its sets. The rules are those of docs/benchmarks.md, which says where they differ from the published
ones.
"""


def published_page(plan: Plan, study: Study, failed: Mapping[str, str]) -> str:
    """The page: for each setting, what others report beside what was found here.

    Args:
        plan: of the study.
        study: its finished settings.
        failed: setting -> why it is not among them.
    """
    tables = [
        *[published_table(s.label, s.config, s.rows) for s in study.settings],
        side_tables.settings(study.settings),
        side_tables.failures(plan, study.settings, failed),
    ]
    texts = [as_markdown(table) for table in tables if table is not None and table.body]
    return "\n".join([HEAD.format(title=plan.title), *texts]).rstrip() + "\n"
