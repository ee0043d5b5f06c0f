"""Texts for and from Slurm's commands. Pure.

Fields are those of https://slurm.schedmd.com/squeue.html, sinfo.html and sacct.html, each closed by a character that no name
holds; those that others may write freely come last.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence

from adapters.base import Accepted, Outcome, Refused, RunName, Unknown, Unreachable
from adapters.shell import document_of
from adapters.slurm.batch import Submission
from adapters.slurm.codec import MIB_PER_GIB, REFUSALS, Job, Listing, Node, expand_hosts, gpus_from_gres
from topology.resources import Resources

END = "\x1f"
SECTION = "\x1e"
_JOB = ("JobID", "State", "Reason", "exit_code", "SubmitTime", "StartTime", "EndTime", "NumCPUs", "tres-alloc", "NodeList")
_JOB_WORDS = ("RestartCnt", "UserName", "Name", "Comment")
_JOB_FIELDS = ",".join(f"{name}:{END}" for name in (*_JOB, *_JOB_WORDS))
_NODE = ("NodeList", "PartitionName", "StateComplete", "CPUsState", "Memory", "AllocMem", "Gres", "GresUsed", "Features")
_NODE_FIELDS = ",".join(f"{name}:{END}" for name in _NODE)
_SACCT_FIELDS = "JobIDRaw,State,ExitCode,Submit,Start,End,AllocTRES,NodeList,User,JobName,Comment"
_DETAIL = re.compile(r"^JobId=(\d+) ")
_PIECE = re.compile(r" Nodes=(\S+) CPU_IDs=(\S*) Mem=(\d+) GRES=(\S*)")
_ANSWER = re.compile(rf"(?:^|{SECTION}|\n)(\d+) (\d+) ([^{SECTION}]*)(?={SECTION})")
"""Of one `sbatch`; what a login's own files say before the first is passed over."""
_UNITS = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3, "": 1.0}
_LOGIN = re.compile(r"(?i)munge|authentication|credential|invalid user|access/permission denied|protocol auth")

PARTITIONS_SCRIPT = """fed_said=$(scontrol ping 2>&1)
case $fed_said in
    *" is UP"*) sinfo -h -o '%P' ;;
    *) printf '%s\\n' "$fed_said"; exit 1 ;;
esac
"""
"""A ping says within moments that no controller answers; other commands try for many seconds."""


def submit_script(submissions: Sequence[Submission]) -> str:
    """One `sbatch` for each, with nothing of the login's environment; each is answered on a line of its own."""
    lines = ["fed_sbatch=$(command -v sbatch) || fed_sbatch=sbatch"]
    for number, each in enumerate(submissions):
        place, words = each.place, ["--parsable", "--no-requeue", "--export=ALL", f"--job-name={each.name}"]
        words += [f"--comment={each.comment}", "--output=/dev/null", "--input=/dev/null", "--chdir=/"]
        words += [f"--ntasks={each.tasks}", f"--cpus-per-task={each.cpus_per_task}"]
        options = {
            "partition": place.partition,
            "account": place.account,
            "qos": place.qos,
            "constraint": place.constraint,
            "reservation": place.reservation,
            "time": each.limit_min,
            "mem": each.memory_per_node_mib or None,
            "mem-per-cpu": each.memory_per_cpu_mib or None,
        }
        words += [f"--{name}={value}" for name, value in options.items() if value is not None]
        if each.tasks == 1:
            words.append("--nodes=1")
        if each.gpus:
            words.append(f"--gres={each.gres_words}" if each.tasks == 1 else f"--gpus-per-task={each.gpu_words}")
        lines.append(
            f"fed_said=$(env -i PATH={shlex.quote(each.path)} ${{HOME:+HOME=\"$HOME\"}} ${{USER:+USER=\"$USER\"}} "
            f"${{LOGNAME:+LOGNAME=\"$LOGNAME\"}} ${{SLURM_CONF:+SLURM_CONF=\"$SLURM_CONF\"}} "
            f'"$fed_sbatch" {shlex.join(words)} 2>&1 {document_of(each.script)}\n)'
        )
        lines.append(f"printf '%s %s %s{SECTION}' {number} $? \"$fed_said\"")
    return "\n".join(lines) + "\n"


def submit_outcomes(submissions: Sequence[Submission], said: str) -> dict[RunName, Outcome]:
    """What the commands answered. A run without an answer, or with one that may pass, is unknown."""
    answers = {int(number): (code, text) for number, code, text in _ANSWER.findall(said)}
    return {each.name: _outcome(*answers.get(number, ("", "no answer"))) for number, each in enumerate(submissions)}


def _outcome(code: str, text: str) -> Outcome:
    words = " ".join(text.removeprefix("sbatch: error: ").split())[:500]
    if code == "0":
        ids = re.search(r"^(\d+)(;.*)?$", text, re.MULTILINE)
        return Accepted(ids.group(1)) if ids else Unknown(f"sbatch said {words!r}")
    if code == "1" and any(f"submission failed: {refusal}" in words for refusal in REFUSALS.values()):
        return Refused(f"Slurm refuses it: {words}")
    return Unknown(f"sbatch: {words}")


def list_script(prefix: str) -> str:
    """Nodes first, then the jobs of this user; last, what jobs of ours hold on each node, which squeue does not tell of one
    that runs on several, and need not tell of GPUs."""
    running = "squeue -h --me --states=RUNNING,COMPLETING,SUSPENDED -o '%D %j'"
    return f"""export SLURM_TIME_FORMAT=%s
fed_now=$(date +%s)
fed_nodes=$(sinfo -h -N -O {shlex.quote(_NODE_FIELDS)}) || exit 1
if printf '%s' "$fed_nodes" | grep -q 'gpu:[^0]'; then fed_plain=none; else fed_plain='^1 '; fi
printf '%s\\n' "$fed_nodes"
printf '{SECTION}'
squeue -h --me --states=all -O {shlex.quote(_JOB_FIELDS)} || exit 1
printf '{SECTION}'
if {running} | grep -v "$fed_plain" | grep -qF {shlex.quote(' ' + prefix)}; then
    scontrol -d -o show job | grep -F {shlex.quote(' JobName=' + prefix)} || :
fi
printf '{SECTION}'
echo "$fed_now"
scontrol show config | sed -n 's/^BOOT_TIME *= *//p'
"""


def listing_from_text(said: str) -> Listing:
    """Raises Unreachable for anything that is not what these commands print."""
    try:
        nodes, jobs, details, times = said.split(SECTION)
        now, life = times.split()  # the controller's start
        by_job = dict(map(_detail, filter(_DETAIL.match, details.split("\n"))))
        return Listing(_nodes(nodes), [_job(row, by_job) for row in _rows(jobs, len(_JOB) + len(_JOB_WORDS))], life, float(now))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise Unreachable(f"squeue and sinfo make no sense: {error!r} in {said[:200]!r}") from error


def _rows(said: str, width: int) -> Iterator[list[str]]:
    """Rows of fields; one that is cut short is an error. A job's name may hold a line end."""
    *lines, rest = said.split(f"{END}\n")
    if rest.strip():
        raise ValueError(f"cut short: {rest[:100]!r}")
    for line in lines:
        row = line.split(END)
        if len(row) != width:
            raise ValueError(f"{len(row)} fields instead of {width}")
        yield row


def _nodes(said: str) -> list[Node]:
    partitions: dict[str, set[str]] = {}
    rows: dict[str, list[str]] = {}
    for row in _rows(said, len(_NODE)):
        partitions.setdefault(row[0], set()).add(row[1].rstrip("*"))
        rows[row[0]] = row
    return [_node(row, frozenset(partitions[name])) for name, row in rows.items()]


def _node(row: Sequence[str], partitions: frozenset[str]) -> Node:
    name, _, states, cpus, memory, used_memory, gres, gres_used, features = row
    used, _, _, total = (int(word) for word in cpus.split("/"))
    return Node(
        name,
        partitions,
        frozenset(states.upper().split("+")),
        Resources.of(total, int(memory) / MIB_PER_GIB, gpus_from_gres(gres)),
        Resources.of(used, int(used_memory) / MIB_PER_GIB, gpus_from_gres(gres_used)),
        frozenset(features.split(",")),
    )


def _job(row: Sequence[str], details: Mapping[str, Mapping[str, Resources]]) -> Job:
    number, state, reason, status, submitted, started, ended, cpus, tres, nodes, restarts, user, name, comment = row
    held = details.get(number) or _held(nodes, cpus, tres)
    return Job(
        id=number,
        name=name,
        user=user,
        states=(state,),
        reason=reason,
        comment="" if comment == "(null)" else comment,
        restarts=int(restarts),
        status=int(status),
        submitted_at=_time(submitted),
        started_at=_time(started),
        ended_at=_time(ended),
        held=held,
    )


def _held(nodes: str, cpus: str, tres: str) -> dict[str, Resources]:
    """What a job holds by node: exact for one node, by equal shares for several."""
    names = [] if nodes in ("", "(null)", "None assigned") else expand_hosts(nodes)
    if not names:
        return {}
    parts = dict(word.partition("=")[::2] for word in tres.split(",") if "=" in word)
    gpus = {kind.removeprefix("gres/gpu").lstrip(":"): int(n) for kind, n in parts.items() if kind.startswith("gres/gpu")}
    if len(gpus) > 1:
        gpus.pop("", None)  # their sum
    share = len(names)
    cpu, memory = int(parts.get("cpu", cpus)) / share, _mib(parts.get("mem", "0")) / MIB_PER_GIB / share
    each = Resources.of(cpu, memory, {kind: count // share for kind, count in gpus.items()})
    return dict.fromkeys(names, each)


def _detail(line: str) -> tuple[str, dict[str, Resources]]:
    """Id and, by node, what is held there, of one line of `scontrol -d -o show job`."""
    found = _DETAIL.match(line)
    assert found
    held: dict[str, Resources] = {}
    for nodes, cpus, memory, gres in _PIECE.findall(line):
        amount = Resources.of(_count(cpus), int(memory) / MIB_PER_GIB, gpus_from_gres(gres))
        held.update(dict.fromkeys(expand_hosts(nodes), amount))
    return found.group(1), held


def _count(ranges: str) -> int:
    """`0-2,5` is four."""
    pairs = [part.partition("-") for part in ranges.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in pairs)


def _mib(words: str) -> float:
    """`3G`, `512M`, `100`."""
    unit = words[-1:] if words[-1:].isalpha() else ""
    return float(words.removesuffix(unit) or 0) * _UNITS[unit]


def _time(words: str) -> float | None:
    """Epoch seconds; `N/A`, `Unknown`, `None` and 0 are never."""
    return float(words) if words.isdigit() and words != "0" else None


def cancel_script(jobs: Collection[Job]) -> str:
    """`scancel` takes a name beside an id and then needs both to hold: an id that was given away is left alone. Jobs that are
    over or gone by now are no error."""
    lines = (f"fed_cancel {shlex.quote(job.name)} {job.id}\n" for job in jobs)
    return _CANCEL + "".join(lines)


_CANCEL = """fed_cancel() {
    fed_said=$(scancel --me --name="$1" "$2" 2>&1) && return
    case $fed_said in
        *"Invalid job id"* | *"already complet"*) ;;
        *) printf '%s\\n' "$fed_said"; exit 1 ;;
    esac
}
"""


def history_script(names: Collection[RunName]) -> str:
    """Of the last week, which is far beyond what any observation is late."""
    joined = shlex.quote(",".join(names))
    return f"""export SLURM_TIME_FORMAT=%s
sacct -X -P -n -D --delimiter='{END}' -S now-7days --name={joined} -o {_SACCT_FIELDS}
"""


def history_from_text(said: str) -> list[Job]:
    """Raises Unreachable for anything that is not what sacct prints."""
    jobs = []
    try:
        for line in filter(None, said.split("\n")):
            number, state, code, submitted, started, ended, tres, nodes, user, name, comment = line.split(END)
            exit_code, number_of_signal = (int(word) for word in code.split(":"))
            word = state.split(" ")[0]  # "CANCELLED by 0"
            jobs.append(
                Job(
                    id=number,
                    name=name,
                    user=user,
                    states=(word,),
                    comment=comment,
                    status=exit_code << 8 | number_of_signal,
                    submitted_at=_time(submitted),
                    started_at=_time(started),
                    ended_at=_time(ended),
                    held=_held(nodes, "0", tres),
                )
            )
    except ValueError as error:
        raise Unreachable(f"sacct makes no sense: {error!r} in {said[:200]!r}") from error
    return jobs


def is_login_failure(said: str) -> bool:
    """Whether what a command says is that we are not let in."""
    return bool(_LOGIN.search(said))
