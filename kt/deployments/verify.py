"""Whether everything is as kt wrote it: the history and what is made from it, git, the registry."""

from collections.abc import Collection, Iterator

from kt.deployments import audit, manifest, need
from kt.deployments.audit import Finding
from kt.deployments.history import Serving, State
from kt.deployments.need import Key
from kt.errors import Corrupt, Invalid, KtError
from kt.registry import absence, load, record, signing
from kt.workspace import Workspace


def everything(workspace: Workspace) -> list[Finding]:
    """Everything that is not as kt wrote it, each on its own: one fault does not hide the next."""
    findings = audit.taken_back(workspace)
    due: Collection[Key] = ()  # what predictors must find here
    try:
        book, state = audit.read(workspace)
    except KtError as error:
        if not findings:  # else it is told already
            findings.append(Finding(error.where, error.what, error.do))
    else:
        due = need.named(manifest.manifest(state))
        findings += audit.verify_manifest(workspace, state)
        findings += served(workspace, state)
        findings += audit.verify_committed(workspace, book)
    findings += registry(workspace, due)
    return findings + signatures(workspace, due) + leftovers(workspace)


def served(workspace: Workspace, state: State) -> list[Finding]:
    """Versions that the history names and the registry lacks, or holds with other weights."""
    return [
        Finding(f"registry/{model}/{version}", what, record.RESTORE)
        for model, serving in state.models.items()
        for version, sha256 in named(serving).items()
        if (what := amiss(workspace, model, version, sha256))
    ]


def named(serving: Serving) -> dict[str, str]:
    """The versions that had traffic, and the digests of their weights."""
    found = {held.version: held.sha256 for held in serving.past.values()}
    if serving.experiment:
        found[serving.experiment.version] = serving.experiment.sha256
    return found


def amiss(workspace: Workspace, model: str, version: str, sha256: str) -> str:
    """What is wrong with a version that was deployed with these weights; empty where nothing is."""
    try:
        found = record.read(workspace, model, version).sha256
    except Invalid:
        return "is named by the history and is not there"
    except Corrupt:
        return ""  # reported with the registry
    return "" if found == sha256 else "has other weights than were deployed"


def registry(workspace: Workspace, due: Collection[Key]) -> list[Finding]:
    """Records and weights; not the weights that are away on purpose (absence.py) and not due."""
    return [
        finding
        for model in record.models(workspace)
        for version in record.versions(workspace, model)
        for finding in of_version(workspace, (model, version), due)
    ]


def of_version(workspace: Workspace, key: Key, due: Collection[Key]) -> Iterator[Finding]:
    folder = record.folder(workspace, *key)
    try:
        known = record.read(workspace, *key)
        if key not in due and absence.of(workspace, *key):
            return
        spec = load.check_all(folder, known)
    except KtError as error:
        yield Finding(error.where, error.what, error.do)
        return
    where = "/".join(("registry", *key))
    if spec != known.spec:
        yield Finding(where, "its record and its weights do not agree", record.RESTORE)
    if record.dump(known) != (folder / record.RECORD).read_bytes():
        yield Finding(where, "its record was written anew by something else", record.RESTORE)


def signatures(workspace: Workspace, due: Collection[Key]) -> list[Finding]:
    """Signatures that are not good, and versions in service that lack the one that kt.toml asks for."""
    settings, out = workspace.settings.signing, []
    for model in record.models(workspace):
        for version in record.versions(workspace, model):
            signed = (record.folder(workspace, model, version) / record.SIGNATURE).exists()
            if not signed and not (settings.require_signature and (model, version) in due):
                continue
            try:
                known = record.read(workspace, model, version)
                signing.check(workspace, settings, model, version, known.sha256)
            except Corrupt:
                continue  # reported with the registry
            except KtError as error:
                out.append(Finding(f"registry/{model}/{version}", error.what, error.do))
    return out


def leftovers(workspace: Workspace) -> list[Finding]:
    """Folders in the registry that are no versions: an interrupted command, or something of somebody's."""
    return [
        Finding(f"registry/{model}/{name}", "is no version: it has no record", "move it away")
        for model in record.models(workspace)
        for name in record.subfolders(workspace.root / record.FOLDER / model)
        if not record.is_version(workspace, model, name)
    ]
