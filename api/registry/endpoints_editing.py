"""Editing the registry over HTTP: hosts, labs, instruments, test items, certificates, special days.

The county office edits all, a lab manager the own host's. A record is created by POST and replaced as a whole by PUT
with If-Match; what is no longer open is `retired` in its record, never deleted.
"""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.deps import IfMatch, Once, public_reads, reads, tagged, writes
from api.errors import invalid, not_found
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.registry import changes, papers, repository, schemas, views
from api.registry.records import HostRecord, InstrumentRecord, LabRecord, Record, TestItemRecord
from api.registry.rules import EDITORS, KEYS, REGISTRARS, key_of
from api.registry.service import find_instrument
from api.schemas import Page
from api.work import Work
from store.periods import SHANGHAI
from store.tables.registry import Certificate, TestItem

router = APIRouter(tags=["registry"])

Everybody = Annotated[Work, public_reads()]
Office = Annotated[Work, writes(*REGISTRARS)]
Editor = Annotated[Work, writes(*EDITORS)]
Reader = Annotated[Work, reads(*EDITORS)]


@router.post("/hosts", status_code=201, summary="Record a host", response_model=schemas.RecordAnswer)
def create_host(record: HostRecord, once: Once, work: Office) -> Response:
    """Its organisation is found by the social credit code, or recorded with it."""
    return once(lambda: _answer(work, changes.create(work, record)))


@router.post(
    "/labs", status_code=201, summary="Record a lab", response_model=schemas.RecordAnswer, responses=problems(404)
)
def create_lab(record: LabRecord, once: Once, work: Editor) -> Response:
    """Of a host that is open."""
    return once(lambda: _answer(work, changes.create(work, record)))


@router.post(
    "/instruments",
    status_code=201,
    summary="Record an instrument",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def create_instrument(record: InstrumentRecord, once: Once, work: Editor) -> Response:
    """In a lab that is open. Its id is its code in lower case, and stays."""
    return once(lambda: _answer(work, changes.create(work, record)))


@router.post(
    "/test-items",
    status_code=201,
    summary="Record what an instrument tests",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def create_test_item(record: TestItemRecord, once: Once, work: Editor) -> Response:
    """By one method standard, with one kind of report."""
    return once(lambda: _answer(work, changes.create(work, record)))


@router.get(
    "/hosts/{host_id}/record",
    summary="A host's record, to be edited",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def host_record(host_id: str, work: Reader) -> Response:
    """Send `record` back by PUT with its ETag as If-Match."""
    return _found(work, HostRecord, host_id)


@router.get(
    "/labs/{lab_id}/record",
    summary="A lab's record, to be edited",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def lab_record(lab_id: str, work: Reader) -> Response:
    """Send `record` back by PUT with its ETag as If-Match."""
    return _found(work, LabRecord, lab_id)


@router.get(
    "/instruments/{instrument_id}/record",
    summary="An instrument's record, to be edited",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def instrument_record(instrument_id: str, work: Reader) -> Response:
    """Send `record` back by PUT with its ETag as If-Match."""
    return _found(work, InstrumentRecord, instrument_id)


@router.get(
    "/test-items/{test_item_id}/record",
    summary="A test item's record, to be edited",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def test_item_record(test_item_id: str, work: Reader) -> Response:
    """Send `record` back by PUT with its ETag as If-Match."""
    return _found(work, TestItemRecord, test_item_id)


@router.put(
    "/hosts/{host_id}", summary="Replace a host's record", response_model=schemas.RecordAnswer, responses=problems(404)
)
def replace_host(host_id: str, record: HostRecord, version: IfMatch, work: Editor) -> Response:
    """A lab manager changes place and contact; names, kind and cluster are the county's."""
    return _replaced(work, record, host_id, version)


@router.put(
    "/labs/{lab_id}", summary="Replace a lab's record", response_model=schemas.RecordAnswer, responses=problems(404)
)
def replace_lab(lab_id: str, record: LabRecord, version: IfMatch, work: Editor) -> Response:
    """A lab is retired after its instruments."""
    return _replaced(work, record, lab_id, version)


@router.put(
    "/instruments/{instrument_id}",
    summary="Replace an instrument's record",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def replace_instrument(instrument_id: str, record: InstrumentRecord, version: IfMatch, work: Editor) -> Response:
    """It is retired (`run_status`) when no booking of it is ahead. What proves its use and what it is worth are the
    county's to change."""
    return _replaced(work, record, instrument_id, version)


@router.put(
    "/test-items/{test_item_id}",
    summary="Replace a test item's record",
    response_model=schemas.RecordAnswer,
    responses=problems(404),
)
def replace_test_item(test_item_id: str, record: TestItemRecord, version: IfMatch, work: Editor) -> Response:
    """It stays with its instrument."""
    return _replaced(work, record, test_item_id, version)


@router.get("/instruments/{instrument_id}/test-items", summary="What an instrument tests", responses=problems(404))
def list_test_items(instrument_id: str, page: WantedPage, work: Everybody) -> Page[schemas.TestItemAnswer]:
    """Without what it no longer tests."""
    instrument = find_instrument(work, instrument_id)
    rows, next_cursor = paginate(
        work.session, repository.open_items(instrument.instrument_id), (TestItem.test_item_id,), page
    )
    return Page(items=[schemas.TestItemAnswer.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get(
    "/instruments/{instrument_id}/certificates", summary="An instrument's certificates", responses=problems(404)
)
def list_certificates(instrument_id: str, page: WantedPage, work: Everybody) -> Page[schemas.CertificateAnswer]:
    """The one that ends last comes first; withdrawn ones say so."""
    instrument = find_instrument(work, instrument_id)
    wanted = repository.certificates_of(instrument.instrument_id)
    keys = (Certificate.valid_to, Certificate.certificate_id)
    rows, next_cursor = paginate(work.session, wanted, keys, page, descending=True)
    return Page(items=[views.paper_shown(work, row) for row in rows], next_cursor=next_cursor)


@router.post(
    "/instruments/{instrument_id}/certificates",
    status_code=201,
    summary="Record a certificate of verification or calibration",
    response_model=schemas.CertificateAnswer,
    responses=problems(404),
)
def record_certificate(instrument_id: str, asked: schemas.CertificateAsked, once: Once, work: Editor) -> Response:
    """Added, never edited: a wrong one is withdrawn."""
    return once(
        lambda: views.paper_shown(
            work,
            papers.record_certificate(
                work,
                instrument_id=instrument_id,
                kind=asked.kind,
                number=asked.number,
                body=asked.body,
                valid_from=asked.valid_from,
                valid_to=asked.valid_to,
            ),
        )
    )


@router.post(
    "/certificates/{certificate_id}/withdrawal",
    status_code=201,
    summary="Withdraw a certificate: from now on it does not count",
    response_model=schemas.CertificateAnswer,
    responses=problems(404),
)
def withdraw_certificate(certificate_id: str, asked: schemas.WithdrawalAsked, once: Once, work: Editor) -> Response:
    """Charges that were posted while it stood stay as they are."""
    return once(lambda: views.paper_shown(work, papers.withdraw_certificate(work, certificate_id, asked.reason)))


@router.get("/certificates", summary="Certificates that end soon or have ended, the first to end first")
def ending_certificates(
    page: WantedPage,
    work: Reader,
    within_days: Annotated[int, Query(ge=0, le=3660, description="Ending before so many days from now")] = 60,
) -> Page[schemas.CertificateAnswer]:
    """A lab manager sees those of the own host."""
    own = None if work.actor.has(*REGISTRARS) or not work.actor.host_ids else work.actor.host_ids
    before = work.now + timedelta(days=within_days)
    rows, next_cursor = repository.certificates_by_end(work.session, own, before, page)
    return Page(items=[views.paper_shown(work, row) for row in rows], next_cursor=next_cursor)


@router.get("/special-days", summary="Days that are not like their weekday, from today on")
def list_special_days(
    page: WantedPage,
    work: Everybody,
    host: Annotated[str | None, Query(description="The county's and this host's")] = None,
) -> Page[schemas.SpecialDayAnswer]:
    """Of the county and of every host, or of one host."""
    today = work.now.astimezone(SHANGHAI).date().isoformat()
    rows, next_cursor = repository.page_of_special_days(work.session, host, today, page)
    return Page(items=[schemas.SpecialDayAnswer.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.post(
    "/special-days",
    status_code=201,
    summary="Close a day, or open it like another weekday",
    response_model=schemas.SpecialDayAnswer,
    responses=problems(404),
)
def put_special_day(asked: schemas.SpecialDayAsked, once: Once, work: Editor) -> Response:
    """A later word for the same day replaces the earlier. Bookings that were made stand; an outage moves them."""
    return once(
        lambda: schemas.SpecialDayAnswer.model_validate(
            papers.put_special_day(
                work,
                host_id=asked.host_id,
                day=asked.day,
                like_weekday=asked.like_weekday,
                name_zh=asked.name_zh,
                name_en=asked.name_en,
            )
        )
    )


@router.delete(
    "/special-days/{special_day_id}",
    status_code=204,
    summary="The day is like its weekday again",
    responses=problems(404),
)
def drop_special_day(special_day_id: str, version: IfMatch, work: Editor) -> Response:
    """A day that has passed stays."""
    papers.drop_special_day(work, special_day_id, version)
    return Response(status_code=204)


def _found(work: Work, kind: type[Record], key: str) -> Response:
    row = work.session.get(changes.TABLES[kind], key)
    if row is None:
        raise not_found(*changes.NOUNS[kind], key)
    return tagged(_answer(work, row))


def _replaced(work: Work, record: Record, key: str, version: int) -> Response:
    field = KEYS[type(record)]
    if key_of(record) != key:
        raise invalid(
            "key_differs",
            f"地址中的编号与内容中的 {field} 不一致;编号不可更改,请改为一致。",
            f"The address names another {field} than the record; it cannot be changed, so give the same in"
            " both; check the address.",
            field=field,
        )
    return tagged(_answer(work, changes.replace(work, record, version)))


def _answer(work: Work, row: changes.Row) -> schemas.RecordAnswer:
    return schemas.RecordAnswer(row_version=row.row_version, record=changes.record_of(work.session, row))
