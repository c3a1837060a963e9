import pytest

from isola.subjects import permissions, visibility
from isola.subjects.permissions import Permission, Role, all_permissions, of_role
from isola.subjects.spans import ALL_SPANS


def test_permissions_are_sorted_and_named_subject_action() -> None:
    names = [permission.value for permission in Permission]
    assert names == sorted(names)
    assert all(permission.name == permission.value.replace(":", "_").upper() for permission in Permission)


def test_every_role_has_what_the_role_below_it_has() -> None:
    assert of_role(Role.VIEWER) < of_role(Role.EDITOR) < of_role(Role.ADMIN) < of_role(Role.OWNER)


def test_a_viewer_reads_all_but_the_log_keys_webhooks_the_family_and_ghosts_and_changes_nothing() -> None:
    kept = {
        *(Permission.AUDIT_READ, Permission.API_KEY_READ, Permission.WEBHOOK_READ),
        *(Permission.FAMILY_READ, Permission.GHOST_READ),
    }
    assert of_role(Role.VIEWER) == {each for each in all_permissions() if each.endswith(":read")} - kept


def test_an_editor_writes_but_cannot_change_objects_of_others() -> None:
    added = of_role(Role.EDITOR) - of_role(Role.VIEWER)
    kept = {Permission.DESCENDANT_ENTER, Permission.OWNER_MANAGE}
    assert added == {each for each in all_permissions() if not each.endswith((":read", ":manage"))} - kept
    assert added >= {permission for permission in Permission if permission.endswith(":write")}


def test_an_admin_may_do_everything_except_creating_owners_and_acting_in_descendants() -> None:
    assert of_role(Role.ADMIN) == all_permissions() - {Permission.OWNER_MANAGE, Permission.DESCENDANT_ENTER}
    assert of_role(Role.OWNER) == all_permissions()


def test_permissions_of_an_application_are_in_the_roles_of_their_action() -> None:
    before = {role: of_role(role) for role in Role}
    names = {"rocket:manage", "rocket:read", "rocket:start"}
    try:
        permissions.declare(*names)
        assert all_permissions() >= names
        more = {role: of_role(role) - before[role] for role in Role}
    finally:
        permissions._known.difference_update(names)
        permissions.declare()
    assert more == {
        Role.VIEWER: {"rocket:read"},
        Role.EDITOR: {"rocket:read", "rocket:start"},
        Role.ADMIN: names,
        Role.OWNER: names,
    }
    assert {role: of_role(role) for role in Role} == before


def test_what_only_rules_of_visibility_ask_for_is_kept_from_editors() -> None:
    before = {role: of_role(role) for role in Role}
    try:
        permissions.declare_of_rules("rocket:watch", "rocket:read", Permission.SPAN_READ)
        more = {role: of_role(role) - before[role] for role in Role}
    finally:
        permissions._of_rules.difference_update({"rocket:watch", "rocket:read", Permission.SPAN_READ})
        permissions.declare()
    added = {"rocket:watch", "rocket:read"}
    assert more == {Role.VIEWER: set(), Role.EDITOR: set(), Role.ADMIN: added, Role.OWNER: added}
    assert {role: of_role(role) for role in Role} == before


@pytest.mark.parametrize("name", ["agent", "agent:", "agent:Start", "agent:start:now", "Agent:read", "agent:rea d"])
def test_a_permission_of_another_form_is_refused(name: str) -> None:
    before = all_permissions()
    with pytest.raises(ValueError, match="expected subject:action"):
        permissions.declare("rocket:read", name)
    assert all_permissions() == before


def test_a_custom_role_has_no_built_in_permissions() -> None:
    with pytest.raises(ValueError, match="support"):
        of_role("support")


def test_a_role_cannot_give_what_only_the_platform_proves() -> None:
    stored = {visibility.WHOLE_LOG, ALL_SPANS, Permission.GHOST_READ, "no:such", Permission.SPAN_READ}
    assert visibility.proved(stored) == Permission.GHOST_READ
