from isola.domain.permissions import ROLES, Permission, Role


def test_permissions_are_sorted_and_named_subject_action() -> None:
    names = [permission.value for permission in Permission]
    assert names == sorted(names)
    assert all(permission.name == permission.value.replace(":", "_").upper() for permission in Permission)


def test_every_role_has_what_the_role_below_it_has() -> None:
    assert ROLES[Role.VIEWER] < ROLES[Role.EDITOR] < ROLES[Role.ADMIN] < ROLES[Role.OWNER]
    assert set(ROLES) == set(Role)


def test_a_viewer_reads_all_but_the_log_and_the_keys_and_changes_nothing() -> None:
    kept = {Permission.AUDIT_READ, Permission.API_KEY_READ}
    assert ROLES[Role.VIEWER] == {each for each in Permission if each.endswith(":read")} - kept


def test_an_editor_writes_but_leaves_what_others_own_alone() -> None:
    added = ROLES[Role.EDITOR] - ROLES[Role.VIEWER]
    assert added == {permission for permission in Permission if permission.endswith(":write")}


def test_an_admin_may_do_all_but_make_owners_and_act_in_what_is_below() -> None:
    assert ROLES[Role.ADMIN] == set(Permission) - {Permission.OWNER_MANAGE, Permission.DESCENDANT_ENTER}
    assert ROLES[Role.OWNER] == set(Permission)
