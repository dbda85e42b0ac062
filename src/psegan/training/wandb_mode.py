"""Whether a run goes to W&B's server: what was asked for, whether there is an account, and whether the server answers."""

import http.client
import os
import ssl
import sys
import threading
import urllib.error
import urllib.request

from lightning.pytorch.utilities import rank_zero_only

from psegan.common.errors import PseganError, readable

PATIENCE = 8.0
"""Seconds in which the server must give its first answer."""
_MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline"}
"""Values of WANDB_MODE, with W&B's older names of two of them, and what they mean."""
OPTION = "--wandb-mode"
"""What jobs call the setting."""
_KEY_LENGTH = 40
"""Characters that a key of W&B has at least."""

_GATEWAY = (502, 503, 504)
"""What proxies say of a server that they cannot reach."""


def resolve_mode(wanted: str, folder: str | None, option: str = "--run.wandb_mode") -> str:
    """``online``, ``offline`` or ``disabled``; never asks for a login.

    A run that is only online because an account is configured goes offline, with a warning, if the server does not answer
    within :data:`PATIENCE` seconds.

    Args:
        wanted: one of these, or ``auto``: what WANDB_MODE says, or else online if an account is configured.
        folder: of the run, for the warning; without it nobody is warned.
        option: that overrides it, for messages.

    Raises:
        PseganError: WANDB_MODE, another setting of W&B or the key is invalid, or online is wanted where there is no account
            or no answer.
    """
    import wandb

    said = os.environ.get("WANDB_MODE")  # wandb reads it in any case
    if said is not None and said not in _MODES:
        raise PseganError(f"WANDB_MODE is {said!r}, but must be online, offline or disabled; correct or unset it")
    if wanted == "auto" and said is not None:
        wanted = _MODES[said]
    if wanted == "disabled":
        return wanted
    try:
        key, server = wandb.api.api_key, wandb.api.api_url
    except wandb.Error as error:
        raise PseganError(f"W&B's key is invalid ({readable(str(error))}); run wandb login again") from None
    except ValueError as error:  # pydantic's
        setting, _, problem = readable(str(error)).partition(": ")[2].partition(" [type=")[0].partition(": ")
        raise PseganError(
            f"W&B's setting {setting} is invalid ({problem}); correct WANDB_{setting.upper()} or W&B's settings file"
        ) from None
    if wanted == "offline":
        return wanted
    if not key and wanted == "auto":
        return "offline"
    if not key:
        raise PseganError("W&B is to be online, but no account is configured: run wandb login, or set WANDB_API_KEY")
    if len(key) < _KEY_LENGTH:
        raise PseganError(
            f"W&B's key has {len(key)} characters, but such keys have {_KEY_LENGTH} or more; correct WANDB_API_KEY, run "
            f"wandb login again, or add {option} offline"
        )
    reason = why_silent(server)
    if reason and wanted == "online":
        raise PseganError(f"W&B is to be online, but {server} does not answer ({reason}): add {option} offline")
    if reason and folder is not None:
        print(
            f"psegan: warning: {server} does not answer ({reason}), so this run is offline; upload it later, with "
            f"wandb sync --append {folder}/wandb/offline-run-*",
            file=sys.stderr,
            flush=True,
        )
    return "offline" if reason else "online"


@rank_zero_only  # other processes log nothing
def why_silent(server: str, patience: float = PATIENCE) -> str | None:
    """Why a server gives no answer over HTTP, through the proxy of the environment if there is one; empty if it gives one.

    Whatever the server itself says will do: this is about the network, and W&B will find out what is wrong with an account.
    """
    found = [f"nothing in {patience:.0f} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(server, method="HEAD"), timeout=patience).close()
            found.append("")
        except urllib.error.HTTPError as error:
            found.append(f"{error.code} {error.reason}" if error.code in _GATEWAY else "")
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            # W&B has certificates of its own
            found.append(
                ""
                if isinstance(cause, ssl.SSLCertVerificationError)
                else getattr(cause, "strerror", None) or str(cause)
            )

    thread = threading.Thread(target=ask, daemon=True)  # the look-up of a name has no time limit of its own
    thread.start()
    thread.join(patience)
    return found[-1]
