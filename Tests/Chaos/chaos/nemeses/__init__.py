"""The failures, one in each file; this is the order in which they run."""

from .decommission import Decommission
from .fsync_error import FsyncError
from .flapping import Flapping
from .full_disk import FullDisk
from .isolate import Isolate
from .kill_all import KillAll
from .kill_leader import KillLeader
from .lying_disk import LyingDisk
from .moving_partitions import MovingPartitions
from .one_way import OneWay
from .pause import Pause
from .power_cut_all import PowerCutAll
from .power_cut_one import PowerCutOne
from .rolling_restart import RollingRestart
from .wiped_disk import WipedDisk

NEMESES = {
    nemesis.name: nemesis
    for nemesis in (
        KillLeader, Pause, Isolate, OneWay, Flapping, RollingRestart, FullDisk, KillAll, FsyncError, PowerCutOne,
        PowerCutAll, LyingDisk, WipedDisk, MovingPartitions, Decommission)
}

# What the short form runs: kinds of failure that differ most, each of which strikes at least twice in a few seconds.
SHORT = (KillLeader.name, Pause.name, Isolate.name, RollingRestart.name, KillAll.name, FsyncError.name, PowerCutAll.name)
