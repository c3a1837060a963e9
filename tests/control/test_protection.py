"""A server serves no home whose policies are not in force: it refuses its tenants, or does not start."""

import pytest
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.platform import migrations, provisioning
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import serving

WEAKENED = "ALTER POLICY visible_rows ON {home}.spans USING (true)"
# As if the migration of a changed rule had reached the registry, but not this home.
OF_AN_OLDER_RULE = """
DO $$ BEGIN
    EXECUTE format('COMMENT ON SCHEMA {home} IS %L', regexp_replace(
        obj_description('{home}'::regnamespace, 'pg_namespace'), '(isola-rules) [0-9a-f]+', '\\1 0'
    ));
END $$
"""


@pytest.mark.parametrize("damage", [WEAKENED, OF_AN_OLDER_RULE])
async def test_the_tenants_of_an_unprotected_home_are_refused_until_it_is_migrated(
    damage: str, copy: Copy, owner: Database, settings: Settings
) -> None:
    tenants = {each.slug: each for each in await provisioning.every(owner)}
    damaged = tenants["schema-a"]
    home = copy.strategies["schema"].home(damaged.id).schema
    async with owner.unbound() as work:
        await work.script(damage.format(home=home))
    with capture_logs() as logged:
        async with serving(copy, settings) as api:
            for slug in tenants:
                answer = await api.client(slug).run("Viewer")
                if slug == damaged.slug:
                    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
                else:
                    assert answer.data
            assert (await migrations.migrate(owner, copy.strategies, copy.where)).failed == {}
            assert (await api.client(damaged.slug).run("Viewer")).data
    found = [entry for entry in logged if "isola migrate" in entry["event"]]
    # At start, and at the refused request.
    assert [entry.get("first", entry.get("home")) for entry in found] == [home, home]


async def test_a_server_does_not_start_if_no_home_is_protected(copy: Copy, owner: Database, settings: Settings) -> None:
    async with owner.unbound() as work:
        for home in await work.texts("SELECT DISTINCT home FROM control.tenants"):
            await work.script(WEAKENED.format(home=home))
    with pytest.raises(OperatorError, match=r"is not protected: a policy, .* was changed: isola migrate"):
        async with serving(copy, settings):
            pass
