"""The rules as a policy pack of Pulumi's: ``pulumi preview --policy-pack policy``."""

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError
from rules import RULES, STACK_RULES, UNKNOWN, Resource, Rule, StackRule


def about_one(rule: Rule) -> Policy:
    """A rule about one resource; what breaks it is not made."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for problem in rule.check(Resource(args.resource_type, args.urn, plain(args.props))):
            report(problem, None)

    return ResourceValidationPolicy(rule.name, rule.description, validate)


def about_all(rule: StackRule) -> Policy:
    """A rule about the whole stack."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for resource, problem in rule.check([_resource(one) for one in args.resources]):
            report(problem, resource.urn)

    return StackValidationPolicy(rule.name, rule.description, validate)


def _resource(one: PolicyResource) -> Resource:
    refers = {key: [other.urn for other in urns] for key, urns in one.property_dependencies.items()}
    return Resource(one.resource_type, one.urn, plain(one.props), refers)


def plain(value: Any) -> Any:
    """A value without the SDK's guards, which raise where something is not known yet."""
    if isinstance(value, Mapping):
        return {key: _at(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_at(value, index) for index in range(len(value))]
    return value


def _at(container: Any, place: Any) -> Any:
    try:
        return plain(container[place])
    except UnknownValueError:
        return UNKNOWN


PolicyPack(
    "own-kubernetes",
    policies=[*map(about_one, RULES), *map(about_all, STACK_RULES)],
    enforcement_level=EnforcementLevel.MANDATORY,
)
