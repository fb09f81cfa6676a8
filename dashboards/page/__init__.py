"""The built-in page, made on the server: no scripts, no foreign hosts, each number with its denominator."""

from dashboards.page.markup import stylesheet
from dashboards.page.offenders import render_interaction, render_offenders
from dashboards.page.overview import render_overview
from dashboards.page.view import Query

__all__ = ["Query", "render_interaction", "render_offenders", "render_overview", "stylesheet"]
