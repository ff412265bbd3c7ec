#!/bin/sh
# Stands where k3s stands: makes the certificates that are missing, where k3s has them, renews those near their end, and becomes
# the API server. What it does not do: the supervisor's /ping, kubelet, kube-proxy, controllers, containers.
set -eu
umask 077
[ "${1:-}" = server ] || { echo "this k3s is a server only" >&2; exit 1; }
tls=/var/lib/rancher/k3s/server/tls
agent=/var/lib/rancher/k3s/agent
mkdir -p "$tls/temporary-certs" "$agent"
config=$tls/openssl.cnf
cat >"$config" <<.
[req]
distinguished_name = none
[none]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyEncipherment, keyCertSign
[server]
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, IP:10.43.0.1, DNS:localhost, DNS:kubernetes, DNS:$(cat /proc/sys/kernel/hostname)
[client]
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth
.

# ca NAME: an authority of its own, as k3s has one for each purpose.
ca() {
    [ -e "$tls/$1.key" ] || openssl req -x509 -config "$config" -extensions ca -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -days 3650 -subj "/CN=k3s-$1" -keyout "$tls/$1.key" -out "$tls/$1.crt" 2>/dev/null
}

# leaf FILE CA KIND SUBJECT: a missing key is made, and never one that is there, were it empty. A certificate that is missing or
# ends within 90 days is issued, unless /run/k3s-renews-nothing.
leaf() {
    [ -e "$1.key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    if [ -e "$1.crt" ]; then
        [ -e /run/k3s-renews-nothing ] && return
        [ -s "$1.crt" ] || return 0
        openssl x509 -in "$1.crt" -noout -checkend 7776000 >/dev/null && return
        echo "certificate $1.crt ends within 90 days, renewing"
    fi
    [ -s "$1.key" ] || return 0
    openssl req -new -config "$config" -key "$1.key" -subj "$4" |
        openssl x509 -req -CA "$tls/$2.crt" -CAkey "$tls/$2.key" -days 365 -extfile "$config" -extensions "$3" -out "$1.crt" 2>/dev/null
}

ca server-ca
ca client-ca
ca request-header-ca
leaf "$tls/serving-kube-apiserver" server-ca server /CN=kube-apiserver
leaf "$tls/client-admin" client-ca client /O=system:masters/CN=system:admin
leaf "$tls/client-kube-apiserver" client-ca client /O=system:masters/CN=kube-apiserver
leaf "$tls/client-auth-proxy" request-header-ca client /CN=system:auth-proxy
# Unlike others this one must be in the older form, which only this command writes.
[ -e "$tls/service.key" ] || openssl ecparam -genkey -name prime256v1 -noout -out "$tls/service.key"

cp "$tls/server-ca.crt" "$tls/client-ca.crt" "$agent"
leaf "$agent/serving-kubelet" server-ca server /CN=kubelet
leaf "$agent/client-kubelet" client-ca client "/O=system:nodes/CN=system:node:$(cat /proc/sys/kernel/hostname)"
leaf "$agent/client-kube-proxy" client-ca client /CN=system:kube-proxy
leaf "$agent/client-k3s-controller" client-ca client /CN=system:k3s-controller
# There is no kubelet here; what it would refuse is refused.
for key in "$agent"/*.key; do
    openssl pkey -in "$key" -noout 2>/dev/null ||
        { echo "Error: failed to load $key: tls: failed to find any PEM data in key input" >&2; exit 1; }
done

exec kube-apiserver \
    --advertise-address=192.0.2.1 --bind-address=127.0.0.1 --secure-port="${K3S_PORT:-6443}" --allow-privileged=true --anonymous-auth=false \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --profiling=false \
    --api-audiences=https://kubernetes.default.svc.cluster.local,k3s \
    --cert-dir="$tls/temporary-certs" --client-ca-file="$tls/client-ca.crt" \
    --tls-cert-file="$tls/serving-kube-apiserver.crt" --tls-private-key-file="$tls/serving-kube-apiserver.key" \
    --kubelet-certificate-authority="$tls/server-ca.crt" \
    --kubelet-client-certificate="$tls/client-kube-apiserver.crt" --kubelet-client-key="$tls/client-kube-apiserver.key" \
    --proxy-client-cert-file="$tls/client-auth-proxy.crt" --proxy-client-key-file="$tls/client-auth-proxy.key" \
    --requestheader-client-ca-file="$tls/request-header-ca.crt" --requestheader-allowed-names=system:auth-proxy \
    --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
    --requestheader-username-headers=X-Remote-User \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$tls/service.key" --service-account-signing-key-file="$tls/service.key" \
    --service-cluster-ip-range=10.43.0.0/16 --storage-backend=etcd3 --etcd-servers=http://127.0.0.1:2379
