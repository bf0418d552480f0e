"""The three images without Docker: a Debian base by debootstrap, the Dockerfile by buildah, into the node's runtime.

Everything lives under the build folder: the base is made once, third-party layers are cached, and a component
whose inputs are unchanged is not built again. Images are named `docker.io/sightline/COMPONENT` with the tag `dev`
and, so that a changed image gets new pods, a tag made of the content of all inputs.
"""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from hack.cluster import packages
from hack.cluster.console import Stopwatch, run, say, succeeds
from hack.cluster.errors import ClusterError
from hack.cluster.mounts import unmount_below
from hack.cluster.paths import ROOT, build_dir, node_dir
from hack.cluster.runtime import Runtime

REGISTRY = "docker.io/sightline"
COMPONENTS = {
    "operator": ("model", "kube", "operator"),
    "api": ("model", "kube", "api", "web/dist"),
    "agent": ("model", "agents"),
}
BASE = "docker.io/library/debian:trixie-slim"
SUITE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What the slim variant of Debian's image leaves out.
NOT_IN_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian")
LEFT_BY_DEBOOTSTRAP = ("var/cache/apt/archives", "var/lib/apt/lists", "var/log")
# Hosts whose way out ends TLS name their authorities in one of these.
AUTHORITY_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
AUTHORITY_IN_BUILD = "/run/host-authorities.crt"


def content_tag(contents: Mapping[str, str] | None = None) -> str:
    """A tag that changes when any input of any image changes."""
    parts = contents or {component: fingerprint(component) for component in COMPONENTS}
    return "dev-" + hashlib.sha256("".join(parts.values()).encode()).hexdigest()[:12]


def build_and_load() -> str:
    """Build what changed and put all three images into the running node; returns the tag of this content."""
    if not (ROOT / "web/dist/index.html").exists():
        raise ClusterError("the web page is not built: run `make web` first")
    packages.ensure(packages.IMAGES)
    # Read once: whoever edits a file meanwhile gets a new build next time, not a wrong name now.
    contents = {component: fingerprint(component) for component in COMPONENTS}
    tag = content_tag(contents)
    runtime = Runtime(node_dir())
    present = runtime.images()
    for component, content in contents.items():
        name = f"{REGISTRY}/{component}"
        # The node knows what it holds by this name, so a node that was set up anew is filled again.
        exact = f"{name}:{content}"
        if exact not in present:
            watch = Stopwatch()
            archive = build(component, content)
            runtime.load(archive)
            runtime.tag(f"{name}:dev", exact)
            say(f"image {name}:dev is ready after {watch}")
        runtime.tag(exact, f"{name}:{tag}")
        keep = {exact, f"{name}:dev", f"{name}:{tag}"}
        runtime.forget([image for image in present if image.startswith(f"{name}:") and image not in keep])
    return tag


def build(component: str, content: str) -> Path:
    """Build one image; returns its archive."""
    archive = build_dir() / "images" / f"{component}-{content}.tar"
    if archive.exists():
        return archive
    _ensure_base()
    say(f"building the image of the {component}")
    name = f"{REGISTRY}/{component}:dev"
    command = ["build", "--layers", "--pull-never", "--isolation=chroot", "--network=host"]
    command += [*_way_out(), f"--build-arg=COMPONENT={component}", f"--tag={name}", str(ROOT)]
    try:
        _buildah(*command)
    finally:
        # buildah keeps the containers of its stages, and their mounts.
        _buildah("rm", "--all")
        unmount_below(build_dir() / "buildah")
    archive.parent.mkdir(parents=True, exist_ok=True)
    for old in archive.parent.glob(f"{component}-*"):
        old.unlink()
    _buildah("push", "--quiet", name, f"docker-archive:{archive}.part:{name}")
    Path(f"{archive}.part").rename(archive)
    return archive


def fingerprint(component: str) -> str:
    """The content of everything that an image is made of, as a short hexadecimal number."""
    digest = hashlib.sha256()
    common = ("Dockerfile", ".dockerignore", "LICENSE", "hack/images", f"requirements/{component}.txt")
    for name in (*common, *COMPONENTS[component]):
        for path in _files(ROOT / name):
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        generated = any(part == "__pycache__" or part.endswith(".egg-info") for part in file.parts)
        if file.is_file() and not generated:
            yield file


def _ensure_base() -> None:
    if succeeds([*_buildah_command(), "inspect", "--type=image", BASE]):
        return
    folder = build_dir() / "debian"
    archive = folder / f"{SUITE}-slim.tar"
    if not archive.exists():
        say(f"making a Debian {SUITE} base with debootstrap (once, 1 to 2 minutes)")
        watch, root = Stopwatch(), folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        mirror = _mirror()
        run(["debootstrap", "--variant=minbase", SUITE, root, mirror])
        slim_down(root, mirror)
        with tarfile.open(f"{archive}.part", "w") as tar:
            tar.add(root, arcname=".", filter=_numeric_owner)
        Path(f"{archive}.part").rename(archive)
        shutil.rmtree(root)
        say(f"made the Debian base in {watch}")
    recipe = folder / "Dockerfile"
    recipe.write_text(f'FROM scratch\nADD {archive.name} /\nCMD ["bash"]\n')
    _buildah("build", "--isolation=chroot", f"--tag={BASE}", f"--file={recipe}", str(folder))


def _mirror() -> str:
    """The Debian mirror that this machine uses; packages are verified by signature, so the way does not matter."""
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]).split()
    for target in targets:
        if target.rstrip("/").endswith("/debian"):
            return target.rstrip("/")
    raise ClusterError("apt names no Debian mirror: see /etc/apt/sources.list.d")


def package_sources(mirror: str) -> str:
    """apt's sources of the base: the release with its updates, and security updates from beside the mirror."""
    entries = ((mirror, f"{SUITE} {SUITE}-updates"), (f"{mirror}-security", f"{SUITE}-security"))
    return "\n".join(
        f"Types: deb\nURIs: {address}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n"
        for address, suites in entries
    )


def slim_down(root: Path, mirror: str) -> None:
    """Leave out what Debian's slim image leaves out, and name the package sources with security updates."""
    for name in (*NOT_IN_SLIM, *LEFT_BY_DEBOOTSTRAP):
        for entry in (root / name).iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "etc/apt/sources.list.d/debian.sources").write_text(package_sources(mirror))
    excluded = "\n".join(f"path-exclude /{name}/*" for name in NOT_IN_SLIM)
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(f"{excluded}\npath-include /usr/share/doc/*/copyright\n")
    (root / "etc/apt/apt.conf.d/slim").write_text('APT::Install-Recommends "false";\nAcquire::Languages "none";\n')


def _numeric_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uname = entry.gname = ""
    return entry


def _way_out() -> list[str]:
    """How packages are fetched from where this machine stands: another index, a proxy's own authorities."""
    index = os.environ.get("PIP_INDEX_URL")
    options = [f"--build-arg=PIP_INDEX_URL={index}"] if index else []
    for variable in AUTHORITY_VARIABLES:
        if bundle := os.environ.get(variable):
            mount = f"--volume={Path(bundle).resolve()}:{AUTHORITY_IN_BUILD}:ro"
            return [*options, mount, f"--build-arg=PIP_CERT={AUTHORITY_IN_BUILD}"]
    return options


def _buildah_command() -> list[str]:
    storage = build_dir() / "buildah"
    return ["buildah", f"--root={storage}/storage", f"--runroot={storage}/run"]


def _buildah(*arguments: str) -> None:
    run([*_buildah_command(), *arguments])
