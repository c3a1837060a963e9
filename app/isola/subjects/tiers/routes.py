from collections.abc import Sequence

from isola.subjects.routes import Route

ROUTES: Sequence[Route] = (
    Route(
        "POST",
        "/tiers",
        """mutation CreateTier($name: String!, $price: Decimal, $currency: String, $period: PlanPeriod,
                               $usageCaps: JSON, $featureEntitlements: [String!]) {
          createTier(input: {name: $name, price: $price, currency: $currency, period: $period, usageCaps: $usageCaps,
                             featureEntitlements: $featureEntitlements}) {
            tier { id name price currency period usageCaps featureEntitlements createdAt updatedAt } } }""",
        answer="createTier.tier",
    ),
)
