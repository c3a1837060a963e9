"""Documents that exceed limits. ``benchmarks/refusing.py`` measures how soon they are rejected."""


def many(template: str, times: int) -> str:
    return " ".join(template.replace("#", str(index)) for index in range(times))


EVIL = {
    "depth by fields": "{ viewer { user {"
    + "organizations { nodes { members { nodes {" * 4
    + "id"
    + "}}}}" * 4
    + "}}}",
    "depth by fragments": "{ viewer { user { ...A } } } fragment A on User { organizations { nodes { ...B } } }"
    "fragment B on Organization { members { nodes { ...C } } } fragment C on User { organizations { nodes { ...D } } }"
    "fragment D on Organization { members { nodes { organizations { nodes { members { nodes { organizations { nodes {"
    " id } } } } } } } } }",
    "depth by schema": "{ __schema { types {" + "ofType {" * 20 + "name" + "}" * 20 + "} } }",
    "101 aliases": "{" + many("a#: __typename", 101) + "}",
    "10,000 aliases": "{" + many("a#:__typename", 10_000) + "}",
    "500 duplicated fields": "{ viewer {" + "roles " * 500 + "} }",
    "51 repeats": "{" + "viewer { roles } " * 51 + "}",
    "cyclic fragments": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
    "a fragment within itself": "{ viewer { user { ...A } } } fragment A on User { id ...A }",
    "exponential fragments": "{ ...F0 }"
    + many("fragment F# on Query { ...G# ...G# } fragment G# on Query { ...F# ...F# }", 1).replace(
        "G0 ...G0", "F1 ...F1"
    )
    + "".join(f" fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }}" for i in range(1, 60))
    + " fragment F60 on Query { __typename }",
    "exponential fragments without a field": "{ ...F0 }"
    + "".join(f" fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }}" for i in range(60))
    + " fragment F60 on Query { ... on Query { ... on Query { __typename } } }",
    "10,000 directives": "{ viewer { roles " + "@a" * 10_000 + " } }",
    "101 directives": "{" + many("viewer @include(if: true) { roles }", 0) + "viewer { roles " + "@a " * 101 + "} }",
    "a document of 1 MB": "{" + "a " * 500_000 + "}",
    "a name of 1 MB": "{" + "a" * 1_000_000 + "}",
    "nested inline fragments": "{" + "... {" * 1000 + "__typename" + "}" * 1001,
    "nested lists": "{ nodes(ids: " + "[" * 1000 + "]" * 1000 + ") { id } }",
    "many operations": many("query Q# { ...F }", 40) + "fragment F on Query { " + "__typename " * 20 + "}",
    "rows": "{ resources(first: 100) { nodes { spans(first: 100) { nodes { author { organizations(first: 100)"
    " { nodes { name } } } } } } } }",
}
