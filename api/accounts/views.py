"""How people and tokens are shown: rows in, answers out, without any secret."""

from api.accounts import repository, schemas
from api.work import Work
from store.tables.accounts import AccessToken, Person


def people_shown(work: Work, people: list[Person]) -> list[schemas.PersonAnswer]:
    """Return people with their roles."""
    roles = repository.roles_of(work.session, [person.person_id for person in people])
    return [
        schemas.PersonAnswer(
            person_id=person.person_id,
            login=person.login,
            name=person.name,
            org_id=person.org_id,
            language=person.language,
            email=person.email,
            active=person.active,
            roles=[schemas.RoleGranted(role=r, host_id=host or None) for r, host in roles.get(person.person_id, [])],
            created_at=person.created_at,
            row_version=person.row_version,
        )
        for person in people
    ]


def token_shown(token: AccessToken) -> schemas.TokenAnswer:
    """Return a token or session without its secret."""
    return schemas.TokenAnswer(
        token_id=token.token_id,
        kind="session" if token.kind == "session" else "bearer",
        name=token.name,
        scopes=token.scopes.split(),
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        last_used_at=token.last_used_at,
        last_used_from=token.last_used_from,
    )
