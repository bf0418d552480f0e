"""Takes mounts away that container tools leave below a folder, so that the folder can be deleted."""

from pathlib import Path

from hack.cluster.console import run, succeeds

MOUNT_POINT = 4  # field of /proc/self/mountinfo


def unmount_below(directory: Path) -> None:
    """Unmount whatever is mounted inside `directory`, innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[MOUNT_POINT] for line in lines]
    for point in sorted((p for p in points if Path(p).is_relative_to(directory)), reverse=True):
        if not succeeds(["umount", point]):
            run(["umount", "--lazy", point])
