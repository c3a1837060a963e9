from collections.abc import Sequence

from isola.subjects.routes import Route

ROUTES: Sequence[Route] = (
    Route(
        "POST",
        "/usage/track",
        """mutation TrackUsage($meter: String!, $quantity: BigInt, $customer: String, $properties: JSON, $at: DateTime,
                               $idempotencyKey: String, $withinLimit: Boolean) {
          recordUsage(input: {meter: $meter, quantity: $quantity, customer: $customer, properties: $properties, at: $at,
                              idempotencyKey: $idempotencyKey, withinLimit: $withinLimit}) { counted } }""",
        answer="recordUsage",
    ),
)
