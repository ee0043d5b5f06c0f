"""bhosts, bqueues, bparams, lsid, lshosts, lsload and bmgroup.

IBM, LSF 10.1: "bhosts" (lsf_command_ref/bhosts.1), "Customize host information output" (lsf_admin/host_info_customize),
"Viewing host-level resource information" (bhosts -l), "bqueues" (bqueues.1), "bparams", "lsid", "lshosts", "Monitor GPU
resources with lshosts" (lsf_gpu/lsf_gpu_lshosts), "lsload", "bmgroup"; `closed_Full` in -o and -w and `closed` in the
plain table, as recorded replies have it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from tests.engines.lsf.placing import Load, loads
from tests.engines.lsf.records import UNFINISHED, WAITING, Config, Host, Job, Queue
from tests.engines.lsf.submit import Request
from tests.engines.lsf.tables import Field, Misused, Options, as_json, as_table, columns

BHOSTS = "host_name:18 status:15 jl_u:5 max:6 njobs:6 run:6 ssusp:6 ususp:6 rsv:6"
BQUEUES = "queue_name:15 priority:4 status:15 max:4 jl_u:4 jl_p:4 jl_h:4 njobs:5 pend:5 run:5 susp:4"
LSLOAD = "host_name:15 status:7 r15s:5 r1m:5 r15m:5 ut:5 pg:5 ls:4 it:5 tmp:5 swp:5 mem:5"
LSHOSTS = "host_name:15 type:7 model:8 cpuf:5 ncpus:5 maxmem:7 maxswp:7 server:6 resources:20"
PLAIN_HEADINGS = {"jl_u": "JL/U", "jl_p": "JL/P", "jl_h": "JL/H", "priority": "PRIO"}
"""Where the plain tables' headings are not the fields' names."""
COMMANDS = ("bhosts", "bqueues", "bparams", "lsid", "lshosts", "lsload", "bmgroup")
Answer = tuple[str, str, int]


class Site:
    """What the daemon knows, to be shown. `shut` are hosts that an administrator closed, `lost` those that do not answer."""

    def __init__(self, config: Config, jobs: Collection[Job], shut: Collection[str], lost: Collection[str]) -> None:
        self.config, self.jobs, self.shut, self.lost = config, jobs, shut, lost
        self.loads = loads(config, jobs)

    def status(self, host: Host, is_plain: bool = False) -> str:
        """As bhosts shows it."""
        if host.name in self.lost:
            return "unavail"
        load = self.loads[host.name]
        state = "closed_Adm" if host.name in self.shut else "closed_Excl" if load.is_exclusive else "ok"
        if state == "ok" and load.slots >= host.slots:
            state = "closed_Full"
        return state.split("_")[0] if is_plain else state

    def count(self, host: Host, *states: str) -> int:
        """Slots of jobs in these states on a host."""
        return sum(slots for job in self.jobs if job.state in states for name, slots in job.hosts if name == host.name)


def _known(options: Options, site: Site) -> list[Host]:
    names = set(options.names)
    found = [host for host in site.config.hosts if not names or {host.name, host.group} & names]
    if not found:
        raise Misused(f"{options.names[0]}: Bad host name, host group name or cluster name")
    return found


def bhosts(request: Request, site: Site) -> Answer:
    """The hosts."""
    options = Options.of(request.argv, "-o -R", "-w -l -json -noheader -gpu -a -X -x -alloc -aff -e")
    hosts = _known(options, site)
    if "-gpu" in options.flags:
        return _gpus(hosts, site), "", 0
    is_plain = not ({"-w", "-l"} & options.flags or "-o" in options.values)

    def busy(host: Host) -> int:
        return len(site.loads[host.name].gpus)

    def slots(*states: str) -> Field[Host]:
        return Field(5, lambda host: str(site.count(host, *states)))

    table: dict[str, Field[Host]] = {
        "host_name": Field(20, lambda host: host.name),
        "status": Field(15, lambda host: site.status(host, is_plain)),
        "cpuf": Field(10, lambda host: "60.00"),
        "jl_u": Field(8, lambda host: ""),
        "max": Field(8, lambda host: str(host.slots)),
        "njobs": slots("RUN", "USUSP", "SSUSP", "UNKWN"),
        "run": slots("RUN", "UNKWN"),
        "ssusp": slots("SSUSP"),
        "ususp": slots("USUSP"),
        "rsv": Field(8, lambda host: "0"),
        "dispatch_window": Field(50, lambda host: ""),
        "ngpus": Field(6, lambda host: str(len(host.gpus)) if host.gpus else ""),
        "ngpus_alloc": Field(12, lambda host: str(busy(host)) if host.gpus else ""),
        "ngpus_excl_alloc": Field(17, lambda host: "0" if host.gpus else ""),
        "ngpus_shared_alloc": Field(19, lambda host: str(busy(host)) if host.gpus else ""),
        "ngpus_shared_jexcl_alloc": Field(25, lambda host: "0" if host.gpus else ""),
        "ngpus_excl_avail": Field(17, lambda host: str(len(host.gpus) - busy(host)) if host.gpus else ""),
        "ngpus_shared_avail": Field(19, lambda host: str(len(host.gpus) - busy(host)) if host.gpus else ""),
        "attribute": Field(50, lambda host: ""),
        "comments": Field(128, lambda host: ""),
        "available_mem": Field(15, lambda host: f"{host.mem_mb - site.loads[host.name].mem_mb:.0f}M"),
        "reserved_mem": Field(15, lambda host: f"{site.loads[host.name].mem_mb:.0f}M"),
        "total_mem": Field(15, lambda host: f"{host.mem_mb}M"),
    }
    if "-l" in options.flags:
        return "\n".join(_long_host(host, site) for host in hosts), "", 0
    return _listed("bhosts", "HOSTS", options, request, table, BHOSTS, hosts)


def _listed(command: str, plural: str, options: Options, request: Request, table, default: str, things) -> Answer:  # type: ignore[no-untyped-def]
    spec = options.values.get("-o") or request.env.get(f"LSB_{command.upper()}_FORMAT", "")
    if "-json" in options.flags and not spec:
        raise Misused(f"{command}: -json must be used with -o")
    shown, delimiter = columns(spec or default, table, {"hname": "host_name", "qname": "queue_name", "prio": "priority"})
    rows = [[table[column.name].value(thing) for column in shown] for thing in things]
    if "-json" in options.flags:
        names = [column.name.upper() for column in shown]
        return as_json(command, plural, [dict(zip(names, row, strict=True)) for row in rows]), "", 0
    if not spec:
        shown = [replace(column, name=PLAIN_HEADINGS.get(column.name, column.name)) for column in shown]
    return as_table(shown, delimiter, rows, "-noheader" not in options.flags), "", 0


def _long_host(host: Host, site: Site) -> str:
    load, free = site.loads[host.name], host.mem_mb - site.loads[host.name].mem_mb
    kinds = (("RUN", "USUSP", "SSUSP", "UNKWN"), ("RUN", "UNKWN"), ("SSUSP",), ("USUSP",))
    counts = [site.count(host, *states) for states in kinds]
    return f"""HOST  {host.name}
STATUS           CPUF  JL/U    MAX  NJOBS    RUN  SSUSP  USUSP    RSV DISPATCH_WINDOW
{site.status(host):<15}60.00     - {host.slots:>6}{counts[0]:>7}{counts[1]:>7}{counts[2]:>7}{counts[3]:>7}      0      -

 CURRENT LOAD USED FOR SCHEDULING:
                r15s   r1m  r15m    ut    pg    io   ls    it   tmp   swp   mem  slots
 Total           0.0   0.0   0.0    0%   0.0     0    0     0  900G    0M {free:>4.0f}M {host.slots - load.slots:>6}
 Reserved        0.0   0.0   0.0    0%   0.0     0    0     0    0M    0M {load.mem_mb:>4.0f}M {0:>6}

"""


def _gpus(hosts: Sequence[Host], site: Site) -> str:
    lines = ["HOST                    ID           MODEL     MUSED      MRSV  NJOBS    RUN   SUSP    RSV"]
    for host in hosts:
        for number, model in enumerate(host.gpus):
            name, busy = host.name if number == 0 else "", int(number in site.loads[host.name].gpus)
            lines.append(f"{name:<20}{number:>6}{model:>27}{'0M':>10}{'0M':>10}{busy:>7}{busy:>7}{0:>7}{0:>7}")
    return "\n".join(lines) + "\n"


def bqueues(request: Request, site: Site) -> Answer:
    """The queues. Counts are of tasks, as bqueues counts."""
    options = Options.of(request.argv, "-o -u -m", "-w -l -r -json -noheader -alloc")
    names = set(options.names)
    queues = [queue for queue in site.config.queues if not names or queue.name in names]
    if missing := names - {queue.name for queue in queues}:
        return "", "".join(f"{name}: No such queue\n" for name in sorted(missing)), 255

    def tasks(queue: Queue, *states: str) -> str:
        return str(sum(job.slots for job in site.jobs if job.queue == queue.name and job.state in states))

    table: dict[str, Field[Queue]] = {
        "queue_name": Field(15, lambda queue: queue.name),
        "description": Field(50, lambda queue: ""),
        "priority": Field(10, lambda queue: str(queue.priority)),
        "status": Field(12, lambda queue: "Open:Active"),
        "max": Field(10, lambda queue: ""),
        "jl_u": Field(10, lambda queue: ""),
        "jl_p": Field(10, lambda queue: ""),
        "jl_h": Field(10, lambda queue: ""),
        "njobs": Field(10, lambda queue: tasks(queue, *UNFINISHED)),
        "pend": Field(10, lambda queue: tasks(queue, *WAITING)),
        "run": Field(10, lambda queue: tasks(queue, "RUN", "UNKWN")),
        "susp": Field(10, lambda queue: tasks(queue, "USUSP", "SSUSP")),
        "rsv": Field(10, lambda queue: "0"),
        "ususp": Field(10, lambda queue: tasks(queue, "USUSP")),
        "ssusp": Field(10, lambda queue: tasks(queue, "SSUSP")),
        "nice": Field(6, lambda queue: "0"),
        "hosts": Field(50, lambda queue: f"{queue.group}/ "),
        "users": Field(50, lambda queue: " ".join(queue.users) or "all"),
    }
    if "-l" in options.flags:
        return "\n".join(_long_queue(queue, table) for queue in queues), "", 0
    return _listed("bqueues", "QUEUES", options, request, table, BQUEUES, queues)


def _long_queue(queue: Queue, table: dict[str, Field[Queue]]) -> str:
    shown = {name: field.value(queue) or "-" for name, field in table.items()}
    limit = f"\n TASKLIMIT\n {queue.task_limit}\n" if queue.task_limit is not None else ""
    return f"""
QUEUE: {queue.name}
  -- No description provided.

PARAMETERS/STATISTICS
PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV PJOBS
{shown["priority"]:>4} {shown["nice"]:>4} {shown["status"]:<15} - - - - {shown["njobs"]} {shown["pend"]} {shown["run"]} 0 0 0 0
{limit}
USERS: {shown["users"]}
HOSTS:  {shown["hosts"]}
"""


def bparams(request: Request, site: Site) -> Answer:
    """Parameters (lsf_command_ref/bparams.1): a summary, or all with -a and -l."""
    options = Options.of(request.argv, "", "-a -l")
    config = site.config
    if not options.flags:
        return f"""Default Queues:  {config.default_queue}
MBD_SLEEP_TIME used for calculations:  10 seconds
Job Checking Interval:  7 seconds
Job Accepting Interval:  0 seconds
""", "", 0
    pairs = [
        ("DEFAULT_QUEUE", config.default_queue),
        ("MBD_SLEEP_TIME", "10 (seconds)"),
        ("SBD_SLEEP_TIME", "7 (seconds)"),
        ("JOB_ACCEPT_INTERVAL", "0 (* MBD_SLEEP_TIME)"),
        ("CLEAN_PERIOD", f"{config.clean_period_s:.0f} (seconds)"),
        ("MAX_JOBID", "999999"),
        ("MAX_JOB_ARRAY_SIZE", str(config.max_job_array)),
        ("JOB_TERMINATE_INTERVAL", f"{config.terminate_interval_s:.0f} (seconds)"),
        ("RESOURCE_RESERVE_PER_TASK", "Y" if config.reserve_per_task else "N"),
    ]
    now = time.strftime("%a %b %e %H:%M:%S %Z %Y")
    return f"lsb.params configuration at {now}\n" + "".join(f"        {name} = {value}\n" for name, value in pairs), "", 0


def lsid(request: Request, site: Site) -> Answer:
    """The cluster."""
    Options.of(request.argv, "", "-V -h")
    return f"""IBM Spectrum LSF Standard 10.1.0.14, Jun 01 2023
Copyright International Business Machines Corp. 1992, 2016.
US Government Users Restricted Rights - Use, duplication or disclosure restricted by GSA ADP Schedule Contract with IBM Corp.

My cluster name is {site.config.cluster}
My master name is login
""", "", 0


def lshosts(request: Request, site: Site) -> Answer:
    """What hosts are made of."""
    options = Options.of(request.argv, "-o -R", "-w -l -json -gpu -a -T")
    hosts = _known(options, site)
    if "-gpu" in options.flags:
        lines = ["HOST_NAME  gpu_id gpu_model                  gpu_driver  gpu_factor numa_id vendor"]
        for host in hosts:
            for number, model in enumerate(host.gpus):
                name = host.name if number == 0 else ""
                lines.append(f"{name:<10} {number:>6} {model:<26} {'535.10':<11} {'90':<10} {'0':<7} Nvidia")
        return "\n".join(lines) + "\n", "", 0
    table: dict[str, Field[Host]] = {
        "host_name": Field(20, lambda host: host.name),
        "type": Field(10, lambda host: "X86_64"),
        "model": Field(10, lambda host: "standin"),
        "cpuf": Field(6, lambda host: "60.0"),
        "ncpus": Field(6, lambda host: str(host.slots)),
        "maxmem": Field(9, lambda host: f"{host.mem_mb}M"),
        "maxswp": Field(9, lambda host: "0M"),
        "server": Field(6, lambda host: "Yes"),
        "resources": Field(60, lambda host: f"(mg {host.group})"),
        "ndisks": Field(6, lambda host: "1"),
        "ncores": Field(6, lambda host: str(host.slots)),
        "nthreads": Field(8, lambda host: "1"),
    }
    return _listed("lshosts", "HOSTS", options, request, table, LSHOSTS, hosts)


def lsload(request: Request, site: Site) -> Answer:
    """What hosts are doing. `mem` is what is left, less what jobs reserve."""
    options = Options.of(request.argv, "-o -R -I", "-w -l -json -gpu -gpuload -N -E -a")
    table: dict[str, Field[Host]] = {
        "host_name": Field(20, lambda host: host.name),
        "status": Field(10, lambda host: "unavail" if host.name in site.lost else "ok"),
        "mem": Field(10, lambda host: f"{host.mem_mb - _taken(site, host).mem_mb:.0f}M"),
        "tmp": Field(10, lambda host: "900G"),
        "swp": Field(10, lambda host: "0M"),
        "ut": Field(6, lambda host: "0%"),
        **{name: Field(6, lambda host: "0.0") for name in ("r15s", "r1m", "r15m", "pg")},
        **{name: Field(6, lambda host: "0") for name in ("ls", "it", "io")},
        "ngpus": Field(6, lambda host: str(len(host.gpus))),
    }
    return _listed("lsload", "HOSTS", options, request, table, LSLOAD, _known(options, site))


def _taken(site: Site, host: Host) -> Load:
    return site.loads[host.name]


def bmgroup(request: Request, site: Site) -> Answer:
    """Host groups and their hosts."""
    options = Options.of(request.argv, "", "-w -l -r")
    groups: dict[str, list[str]] = {}
    for host in site.config.hosts:
        groups.setdefault(host.group, []).append(host.name)
    shown = {name: hosts for name, hosts in groups.items() if not options.names or name in options.names}
    return "GROUP_NAME    HOSTS\n" + "".join(f"{name:<13} {' '.join(hosts)} \n" for name, hosts in shown.items()), "", 0
