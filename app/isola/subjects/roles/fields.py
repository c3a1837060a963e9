import strawberry
from sqlalchemy import Boolean, ColumnElement, Text, Uuid, case, cast, literal_column
from sqlalchemy.dialects.postgresql import ARRAY

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.declared import extend
from isola.api.fields import expression, many, mapped, one, typed_id
from isola.api.request import Info, payload
from isola.query.identifiers import decode
from isola.query.mapping import Parameters, Row
from isola.subjects import roles
from isola.subjects.permissions import Permission, Role as BuiltIn, of_role
from isola.subjects.roles import Role, user_roles
from isola.subjects.users import User

PREFIX, USER = Role.declaration.prefix, User.declaration.prefix


def _permissions(role: Row) -> ColumnElement[list[str]]:
    """The permissions of a role; those of a built-in role are defined in the code."""
    texts = {name.value: ", ".join(f"'{each}'" for each in sorted(of_role(name))) for name in BuiltIn}
    by_name = {name: literal_column(f"ARRAY[{text}]", ARRAY(Text())) for name, text in texts.items()}
    return case(by_name, value=role["name"], else_=role["permissions"])


def _built_in(role: Row) -> ColumnElement[bool]:
    return cast(role["name"].in_([name.value for name in BuiltIn]), Boolean())


@extend(Role)
class RoleFields:
    permissions: list[str] = expression(_permissions, "By name, as in viewer.permissions.")
    built_in: bool = expression(_built_in, "Whether the role is built in and cannot be changed.")
    members: Connection[User] = many(
        through=(user_roles, "role_id", "user_id"), description="The users with this role, in the order of creation."
    )


@strawberry.input
class CreateRoleInput:
    name: str
    permissions: list[str] = strawberry.field(description="Permissions of the role; the caller must have them.")


@mapped(Parameters({"role_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class CreateRolePayload:
    role: Role = one("role_id")


@strawberry.input(description="An omitted field keeps its value.")
class UpdateRoleInput:
    id: strawberry.ID
    name: str | None = None
    permissions: list[str] | None = None


@mapped(Parameters({"role_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class UpdateRolePayload:
    role: Role = one("role_id")


@strawberry.input
class DeleteRoleInput:
    id: strawberry.ID


@mapped(Parameters({"role_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class DeleteRolePayload:
    deleted_id: strawberry.ID = typed_id(PREFIX, "role_id")


@strawberry.input
class AssignRoleInput:
    user_id: strawberry.ID
    role_id: strawberry.ID


@mapped(Parameters({"user_id": Uuid(), "role_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class AssignRolePayload:
    user: User = one("user_id")
    role: Role = one("role_id")


@strawberry.input
class UnassignRoleInput:
    user_id: strawberry.ID
    role_id: strawberry.ID


@mapped(Parameters({"user_id": Uuid(), "role_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class UnassignRolePayload:
    user: User = one("user_id")
    role: Role = one("role_id")


@strawberry.type
class RoleMutations:
    @mutation(requires(Permission.ROLE_MANAGE), "Create one role of the tenant's own.")
    async def create_role(self, info: Info, input: CreateRoleInput) -> CreateRolePayload:
        async with info.context.transaction() as work:
            key = await roles.create(
                work, info.context.actor, name=input.name, permissions=frozenset(input.permissions)
            )
            return await payload(CreateRolePayload, info, work, role_id=key)

    @mutation(
        requires(Permission.ROLE_MANAGE), "Change one role of the tenant's own: an omitted field keeps its value."
    )
    async def update_role(self, info: Info, input: UpdateRoleInput) -> UpdateRolePayload:
        key = decode(input.id, PREFIX, "id")
        permissions = None if input.permissions is None else frozenset(input.permissions)
        async with info.context.transaction() as work:
            await roles.update(work, info.context.actor, key, name=input.name, permissions=permissions)
            return await payload(UpdateRolePayload, info, work, role_id=key)

    @mutation(requires(Permission.ROLE_MANAGE), "Delete one role of the tenant's own, and take it from all users.")
    async def delete_role(self, info: Info, input: DeleteRoleInput) -> DeleteRolePayload:
        key = decode(input.id, PREFIX, "id")
        async with info.context.transaction() as work:
            await roles.delete(work, info.context.actor, key)
            return await payload(DeleteRolePayload, info, work, role_id=key)

    @mutation(requires(Permission.USER_MANAGE), "Give a role to a user.")
    async def assign_role(self, info: Info, input: AssignRoleInput) -> AssignRolePayload:
        user, role = decode(input.user_id, USER, "userId"), decode(input.role_id, PREFIX, "roleId")
        async with info.context.transaction() as work:
            await roles.assign(work, info.context.actor, user, role)
            return await payload(AssignRolePayload, info, work, user_id=user, role_id=role)

    @mutation(requires(Permission.USER_MANAGE), "Take a role from a user.")
    async def unassign_role(self, info: Info, input: UnassignRoleInput) -> UnassignRolePayload:
        user, role = decode(input.user_id, USER, "userId"), decode(input.role_id, PREFIX, "roleId")
        async with info.context.transaction() as work:
            await roles.unassign(work, info.context.actor, user, role)
            return await payload(UnassignRolePayload, info, work, user_id=user, role_id=role)
