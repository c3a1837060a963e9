from collections.abc import Sequence

from isola.subjects import Route

CASE = "id title description state reporter { id name } assignee { id name } createdAt updatedAt"

ROUTES: Sequence[Route] = (
    Route(
        "GET",
        "/cases",
        f"""query Cases($first: Int, $after: String, $state: CaseState, $assigneeId: ID) {{
          cases(first: $first, after: $after, filter: {{state: {{eq: $state}}, assigneeId: {{eq: $assigneeId}}}}) {{
            items: nodes {{ {CASE} }} totalCount pageInfo {{ hasNextPage endCursor }} }} }}""",
        answer="cases",
    ),
    Route("GET", "/cases/{caseId}", f"query Case($caseId: ID!) {{ case(id: $caseId) {{ {CASE} }} }}", answer="case"),
    Route(
        "POST",
        "/cases",
        f"""mutation CreateCase($title: String!, $description: String, $assigneeId: ID) {{
          createCase(input: {{title: $title, description: $description, assigneeId: $assigneeId}}) {{
            case {{ {CASE} }} }} }}""",
        answer="createCase.case",
    ),
    Route(
        "PATCH",
        "/cases/{caseId}",
        f"""mutation UpdateCase($caseId: ID!, $title: String, $description: String, $state: CaseState,
                            $assigneeId: ID) {{
          updateCase(input: {{id: $caseId, title: $title, description: $description, state: $state,
                              assigneeId: $assigneeId}}) {{ case {{ {CASE} }} }} }}""",
        answer="updateCase.case",
    ),
)
