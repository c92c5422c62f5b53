"""Filters: AIP-160 expressions over the attributes of items."""

from pspsearch.filters.expression import And, Comparison, Expression, Not, Operator, Or, Presence
from pspsearch.filters.parser import Filter

__all__ = ["And", "Comparison", "Expression", "Filter", "Not", "Operator", "Or", "Presence"]
