#!/bin/sh
# Makes what a node needs for an API server: kube-apiserver, etcd and openssl, of Debian 12.
#
#   build.sh fetch FOLDER MIRROR    packages and sources, by apt, with nothing of the host's own set-up changed
#   build.sh build FOLDER           what was fetched becomes FOLDER/usr; needs no network, leaves nothing else
set -eu
umask 022
place=$2
work=$place/work

fetch() {
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
    cat >"$work/sources" <<.
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $1 bookworm main
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $1 bookworm main
.
    cat >"$work/apt.conf" <<.
Dir::Etc::SourceList "$work/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/lists";
Dir::State::Status "/dev/null";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
APT::Update::Error-Mode "any";
.
    export APT_CONFIG="$work/apt.conf"
    cd "$work/debs"
    apt-get -q update
    apt-get -q download etcd-server openssl golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev
    # Its hash stands in the signed index; to unpack it needs no more than tar.
    apt-get -q source --download-only kubernetes
}

build() {
    for package in "$work"/debs/golang-*.deb; do
        dpkg-deb -x "$package" "$work/go"
    done
    tree=$work/path/src/k8s.io/kubernetes
    mkdir -p "$tree" "$work/tmp"
    tar -xzf "$work"/debs/kubernetes_*.orig.tar.gz -C "$tree" --strip-components=1
    # The copy it brings reaches into the runtime of an older Go.
    rm -r "$tree/vendor/github.com/modern-go/reflect2"
    cp -r "$work/go/usr/share/gocode/src/github.com/modern-go/reflect2" "$tree/vendor/github.com/modern-go/"

    export GOROOT="$work/go/usr/lib/go-1.19" GOPATH="$work/path" GOCACHE="$work/objects" TMPDIR="$work/tmp" HOME="$work"
    export GO111MODULE=off CGO_ENABLED=0 GOFLAGS= PATH="$work/go/usr/lib/go-1.19/bin:$PATH"
    cd "$tree"
    # The one generated file that the sources lack.
    go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    tagged=$(grep -RlF '+k8s:openapi-gen=' --include='*.go' --exclude='*_test.go' pkg vendor/k8s.io |
        grep -vE '^vendor/k8s.io/(gengo|kube-openapi|code-generator|sample-apiserver)/' | xargs -n1 dirname | sort -u |
        sed 's,^,k8s.io/kubernetes/,' | paste -sd,)
    "$work/openapi-gen" -i "$tagged" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
        -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$work/violations"
    version=
    for package in client-go/pkg component-base; do
        for pair in gitVersion=v1.20.2 gitMajor=1 gitMinor=20 gitTreeState=archive; do
            version="$version -X k8s.io/kubernetes/vendor/k8s.io/$package/version.$pair"
        done
    done
    mkdir -p "$place/usr/local/bin"
    go build -ldflags "-s -w $version" -o "$place/usr/local/bin/kube-apiserver" ./cmd/kube-apiserver

    dpkg-deb --fsys-tarfile "$work"/debs/etcd-server_*.deb | tar -x -C "$place" ./usr/bin/etcd
    dpkg-deb --fsys-tarfile "$work"/debs/openssl_*.deb | tar -x -C "$place" ./usr/bin/openssl
    chmod -R u+w "$work"
    rm -r "$work"
}

case $1 in
fetch) fetch "$3" ;;
build) build ;;
esac
