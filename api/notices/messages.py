"""An e-mail as bytes on the wire: headers and plain text from what texts.py says. Pure.

The Message-ID follows from what the e-mail is about, so a mail program shows one that came twice only once.
"""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr

from api.notices.ics import Attached
from api.notices.texts import Rendered
from api.notices.transports import MailRefused

_FOOT = {
    "zh": "——\n本邮件由 OpenLab 自动发送,请勿回复。通知方式可在“通知设置”中更改。",
    "en": "--\nSent by OpenLab; answers are not read. Change what you are told under your notice preferences.",
}


def compose(
    rendered: Rendered,
    *,
    mail_id: str,
    sender: str,
    name: str,
    address: str,
    language: str,
    at: datetime,
    calendar: Attached | None = None,
) -> EmailMessage:
    """Return an e-mail. `mail_id` is unique and stays the same when it is sent again; `at` is when it is sent.

    A calendar goes along as `booking.ics`, of the type that calendar programs take in (`method` as it says itself).

    Raises MailRefused for an address that no server could take.
    """
    message = EmailMessage(policy=SMTP)
    from_name, from_address = parseaddr(sender)
    try:
        message["To"] = Address(" ".join(name.split()), addr_spec=address)
    except (ValueError, IndexError) as error:
        raise MailRefused(f"not an address: {error}") from error
    message["From"] = Address(from_name or "OpenLab", addr_spec=from_address)
    message["Subject"] = rendered.title
    message["Date"] = at
    message["Message-ID"] = f"<{mail_id}@{from_address.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = language
    message.set_content(f"{rendered.body}\n\n{_FOOT.get(language, _FOOT['zh'])}\n", cte="base64")
    if calendar is not None:
        message.add_attachment(
            calendar.content,
            maintype="text",
            subtype="calendar",
            filename="booking.ics",
            params={"charset": "utf-8", "method": calendar.method},
        )
    return message
