#!/bin/sh
# The programs of a real Kubernetes, built once from their Go modules into ${FEDBROKER_CACHE:-~/.cache/fedbroker}/bin/kubernetes-VERSION,
# and what its nodes need from Debian. Prints the folder. Needs Go 1.26 or newer and its module proxy; takes minutes the first time.
set -eu
version=1.36.3
cd "$(dirname "$0")"
sh ../etcd/build.sh >/dev/null
if ! { command -v containerd && command -v runc && command -v busybox && test -x /usr/lib/cni/ptp; } >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y --no-install-recommends containerd runc containernetworking-plugins busybox-static >&2 ||
            { apt-get update >&2; apt-get install -y --no-install-recommends containerd runc containernetworking-plugins busybox-static >&2; }
    else
        echo "nodes need containerd, runc, containernetworking-plugins and busybox-static: as root, apt-get install them" >&2
    fi
fi
target="${FEDBROKER_CACHE:-$HOME/.cache/fedbroker}/bin/kubernetes-$version"
stamp=k8s.io/component-base/version  # clients and controllers refuse an apiserver that states no version
flags="-s -w -X $stamp.gitVersion=v$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=36"
mkdir -p "$target"
for program in kube-apiserver kube-controller-manager kube-scheduler kubelet; do
    test -x "$target/$program" && continue
    made="$target/.$program.$$"
    trap 'rm -f "$made"' EXIT
    CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags="$flags" -o "$made" "k8s.io/kubernetes/cmd/$program"
    mv "$made" "$target/$program"
done
echo "$target"
