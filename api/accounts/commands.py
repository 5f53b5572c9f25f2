"""`openlab accounts …`: what an administrator does at the machine itself. Added to the command line by api.commands.

Whoever can run these can also read the database: the login given with `--as` is a signature, not a proof.
"""

import json
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from api.accounts import repository, resets, service, tokens
from api.accounts.acting import acting_as, active_person
from api.accounts.uscc import read_uscc
from api.command_line import open_ledger
from api.errors import conflict
from api.registry.service import create_org
from store.tables.accounts import Role
from store.tables.registry import OrgKind
from wire.clock import SystemClock, from_ms

app = typer.Typer(help="People: a password reset to hand over, an end to all sign-ins, a first admin.")

DataDir = Annotated[Path | None, typer.Option(help="Folder of the databases, where no URL is set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
As = Annotated[str | None, typer.Option("--as", help="Login of the person who does it.", metavar="LOGIN")]
Login = Annotated[str, typer.Argument(help="The person's login name.")]


@app.command()
def reset(login: Login, by: As = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Make a password reset to hand over in person; it is shown once. Look at their identity card first.

    Example: openlab accounts reset wang-7k2m --as admin-1
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, by) as work:
        person = active_person(work.session, login)
        good_for = timedelta(hours=ledger.settings.reset_hours)
        _, secret, expires_at = resets.issue_by_hand(work, person.person_id, _real_now(), good_for)
        # Printed before the commit: if nobody can read it, there is none.
        if as_json:
            shown = {"login": person.login, "token": secret, "expires_at": expires_at.isoformat()}
            typer.echo(json.dumps(shown, ensure_ascii=False))
        else:
            typer.echo(f"{person.login}  {secret}\ngood once, until {expires_at.isoformat(timespec='minutes')}")


@app.command("sign-out")
def sign_out(login: Login, by: As = None, data_dir: DataDir = None) -> None:
    """End every session and token of a person. They may sign in again.

    Example: openlab accounts sign-out wang-7k2m --as admin-1
    """
    with open_ledger(data_dir=data_dir) as ledger, acting_as(ledger, by) as work:
        work.require((Role.ADMIN,), "撤销他人登录", "end somebody else's sign-ins")
        ended = tokens.revoke_all(work, active_person(work.session, login).person_id, _real_now())
    typer.echo(f"{ended} ended")


@app.command("first-admin")
def first_admin(
    login: Login,
    name: Annotated[str, typer.Option(help="Their name.")],
    uscc: Annotated[str, typer.Option(help="Social credit code of the county office.")],
    office: Annotated[str, typer.Option(help="Name of the county office.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Record the county office and its first admin; the password is shown once. Refused where there is an admin.

    Example: openlab accounts first-admin admin --name 王某 --uscc 11990000000000011X --office 县科技局
    """
    password = secrets.token_urlsafe(12)
    with open_ledger(data_dir=data_dir) as ledger, ledger.unit("command") as work:
        if repository.has_admin(work.session):
            raise conflict(
                "admin_exists",
                "系统管理员已存在;请由其登录操作,或用 openlab accounts reset 重置其密码。",
                "There is an admin; sign in as them, or make them a password reset with `openlab accounts reset`.",
            )
        org = repository.org_with_code(work.session, read_uscc(uscc))
        if org is None:
            org = create_org(work, uscc=uscc, kind=OrgKind.GOV, name_zh=office)
        person = service.create_person(work, login=login, name=name, org_id=org.org_id, password=password)
        service.grant_role(work, person.person_id, Role.ADMIN)
        if as_json:
            typer.echo(json.dumps({"login": person.login, "password": password}))
        else:
            typer.echo(f"{person.login}  {password}")


def _real_now() -> datetime:
    return from_ms(SystemClock().now_ms())
