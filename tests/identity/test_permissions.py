from app.identity.permissions import ROLES, Permission, Role


def test_permissions_are_sorted_and_named_subject_action() -> None:
    names = [permission.value for permission in Permission]
    assert names == sorted(names)
    assert all(permission.name == permission.value.replace(":", "_").upper() for permission in Permission)


def test_every_role_has_what_the_role_below_it_has() -> None:
    assert ROLES[Role.VIEWER] < ROLES[Role.EDITOR] < ROLES[Role.ADMIN]
    assert set(ROLES) == set(Role)


def test_a_viewer_reads_everything_and_changes_nothing() -> None:
    assert ROLES[Role.VIEWER] == {permission for permission in Permission if permission.endswith(":read")}


def test_an_editor_writes_but_leaves_what_others_own_alone() -> None:
    added = ROLES[Role.EDITOR] - ROLES[Role.VIEWER]
    assert added == {permission for permission in Permission if permission.endswith(":write")}


def test_an_admin_may_do_everything() -> None:
    assert ROLES[Role.ADMIN] == set(Permission)
