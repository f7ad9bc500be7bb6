"""An alert as a mail by SMTP."""

import hashlib
import smtplib
import ssl
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from kt.errors import Unavailable
from kt.monitors.message import Message
from kt.monitors.secret import Reference, read


class Settings(BaseModel, extra="forbid"):
    host: str
    port: int = Field(587, ge=1, le=65_535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: str
    to: list[str] = Field(min_length=1)
    user: str = ""
    password: Reference = ""  # env:NAME or file:PATH
    timeout: float = Field(10.0, gt=0, le=60)  # seconds, of each step


def send(message: Message, settings: Settings, root: Path) -> None:
    """Raises Unavailable where no server took it."""
    password = read(settings.password, root) if settings.password else ""
    try:
        with connect(settings) as server:
            if settings.user:
                server.login(settings.user, password)
            server.send_message(letter(message, settings))
    except (OSError, smtplib.SMTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Unavailable(
            f"{settings.host}: {reason}"[:300],
            do="mend host, port, tls, user and password of the sink in kt.toml",
        ) from error


def connect(settings: Settings) -> smtplib.SMTP:
    if settings.tls == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(
            settings.host, settings.port, timeout=settings.timeout, context=context
        )
    server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout)
    try:
        if settings.tls == "starttls":
            server.starttls(context=ssl.create_default_context())
    except BaseException:
        with suppress(OSError, smtplib.SMTPException):
            server.close()
        raise
    return server


def letter(message: Message, settings: Settings) -> EmailMessage:
    """Message-ID: the same for the same message, so that one sent twice is shown once."""
    mail = EmailMessage()
    mail["Subject"] = message.title[:200]
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.to)
    mail["Date"] = datetime.fromisoformat(message.at)
    known = hashlib.sha256(f"{message.key} {message.at}".encode()).hexdigest()[:32]
    mail["Message-ID"] = f"<{known}@kt>"
    mail.set_content(message.text)
    return mail
