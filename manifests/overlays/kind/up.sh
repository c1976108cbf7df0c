#!/usr/bin/env bash
# A cluster in Docker with Kubeflow Pipelines, KServe in its mode Standard, an S3 server and what is in
# kustomization.yaml. Run it again after a failure, or after a change: it goes on where it was.
#
#   manifests/overlays/kind/up.sh            make it, or bring it up to date
#   manifests/overlays/kind/up.sh load       bring the images that `make images` built here into it
#   manifests/overlays/kind/up.sh down       delete it
#
# Needs docker, kind, kubectl, helm and jq, about 8 GB of memory, 20 GB of disk and a way to the internet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly CLUSTER=${CLUSTER:-defectline}
readonly NODE_IMAGE=kindest/node:v1.34.0
readonly KFP=2.17.0
readonly CERT_MANAGER=v1.17.0
readonly GATEWAY_API=v1.5.1
readonly ENVOY_GATEWAY=v1.7.0
readonly KSERVE=v0.21.0
readonly ENDPOINT=http://s3.defectline-s3.svc.cluster.local:8333
readonly WAIT=600s

say() { printf '\n== %s\n' "$*"; }

k() { kubectl --context "kind-$CLUSTER" "$@"; }

chart() { # release, namespace, chart, version, more arguments of helm
  local release=$1 namespace=$2 chart=$3 version=$4
  shift 4
  helm --kube-context "kind-$CLUSTER" upgrade --install "$release" "$chart" --version "$version" \
    --namespace "$namespace" --create-namespace --wait --timeout "$WAIT" "$@"
}

need() {
  local tool missing=()
  for tool in "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "up.sh: not installed: ${missing[*]}" >&2
    exit 2
  fi
}

cluster() {
  say "cluster $CLUSTER"
  if ! kind get clusters | grep -qx "$CLUSTER"; then
    kind create cluster --name "$CLUSTER" --image "$NODE_IMAGE" --wait "$WAIT"
  fi
}

pipelines() {
  say "Kubeflow Pipelines $KFP"
  local source="github.com/kubeflow/pipelines/manifests/kustomize"
  k apply -k "$source/cluster-scoped-resources?ref=$KFP"
  k wait --for condition=established --timeout=60s crd/applications.app.k8s.io
  k apply -k "$source/env/platform-agnostic?ref=$KFP"
  k -n kubeflow rollout status deployment/ml-pipeline --timeout "$WAIT"
}

serving() {
  say "KServe $KSERVE"
  # Newer than Envoy Gateway's own, and applied first, so its chart leaves them alone.
  k apply --server-side -f \
    "https://github.com/kubernetes-sigs/gateway-api/releases/download/$GATEWAY_API/standard-install.yaml"
  chart cert-manager cert-manager oci://quay.io/jetstack/charts/cert-manager "$CERT_MANAGER" \
    --set crds.enabled=true
  chart eg envoy-gateway-system oci://docker.io/envoyproxy/gateway-helm "$ENVOY_GATEWAY"
  chart kserve-crd kserve oci://ghcr.io/kserve/charts/kserve-crd "$KSERVE"
  k apply -f gateway.yaml
  chart kserve kserve oci://ghcr.io/kserve/charts/kserve-resources "$KSERVE"
  # The namespace of the endpoint wants more of the storage-initializer than the chart gives it.
  k patch clusterstoragecontainer default --type merge --patch-file ../../cluster/storage-container.yaml
  # The chart's values for this have other names in each release; the configuration has not.
  local ingress
  ingress=$(k -n kserve get configmap inferenceservice-config -o jsonpath='{.data.ingress}' |
    jq -c '.enableGatewayApi = true | .kserveIngressGateway = "kserve/kserve-ingress-gateway"')
  k -n kserve patch configmap inferenceservice-config --type merge \
    -p "$(jq -n --arg ingress "$ingress" '{data: {ingress: $ingress}}')"
  k -n kserve rollout restart deployment/kserve-controller-manager
  k -n kserve rollout status deployment/kserve-controller-manager --timeout "$WAIT"
}

secret() { # namespace, name, more arguments of kubectl
  local namespace=$1 name=$2
  shift 2
  k -n "$namespace" create secret generic "$name" --dry-run=client -o yaml "$@" | k apply -f -
}

store() {
  say "S3 server and namespace"
  local key secret_key
  k create namespace defectline-s3 --dry-run=client -o yaml | k apply -f -
  # Keys once made stay: the served pods and the pipeline hold them too.
  if ! k -n defectline-s3 get secret s3-keys >/dev/null 2>&1; then
    key=$(od -An -N10 -tx1 /dev/urandom | tr -d ' \n')
    secret_key=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
    secret defectline-s3 s3-keys \
      --from-literal=AWS_ACCESS_KEY_ID="$key" --from-literal=AWS_SECRET_ACCESS_KEY="$secret_key"
  fi
  key=$(k -n defectline-s3 get secret s3-keys -o go-template='{{.data.AWS_ACCESS_KEY_ID | base64decode}}')
  secret_key=$(k -n defectline-s3 get secret s3-keys -o go-template='{{.data.AWS_SECRET_ACCESS_KEY | base64decode}}')
  secret defectline-s3 s3-config --from-file=s3.json=/dev/stdin <<JSON
{"identities": [{"name": "defectline", "credentials": [{"accessKey": "$key", "secretKey": "$secret_key"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
  k apply -k .
  secret kubeflow s3-keys \
    --from-literal=AWS_ACCESS_KEY_ID="$key" --from-literal=AWS_SECRET_ACCESS_KEY="$secret_key"
  secret defectline defectline-models \
    --from-literal=AWS_ACCESS_KEY_ID="$key" --from-literal=AWS_SECRET_ACCESS_KEY="$secret_key"
  secret defectline defectline-review --from-literal=AWS_ENDPOINT_URL_S3="$ENDPOINT" \
    --from-literal=AWS_ACCESS_KEY_ID="$key" --from-literal=AWS_SECRET_ACCESS_KEY="$secret_key"
  k -n defectline annotate --overwrite secret defectline-models \
    serving.kserve.io/s3-endpoint="${ENDPOINT#http://}" \
    serving.kserve.io/s3-usehttps=0 serving.kserve.io/s3-region=us-east-1
  k -n defectline-s3 rollout status deployment/seaweedfs --timeout "$WAIT"
  local name
  for name in plates store; do
    # An error here says that the bucket is there already.
    k -n defectline-s3 exec deployment/seaweedfs -- \
      sh -c "echo 's3.bucket.create -name $name' | weed shell -master=localhost:9333" || true
  done
}

usage() {
  cat <<TEXT

Next, each in the folder of the repository:
  $PWD/up.sh load                 # the images that make images built
  kubectl --context kind-$CLUSTER -n defectline-s3 port-forward service/s3 8333
  kubectl --context kind-$CLUSTER -n kubeflow port-forward service/ml-pipeline 8888
Keys of the S3 server: kubectl --context kind-$CLUSTER -n defectline-s3 get secret s3-keys -o yaml
docs/cluster.md goes on from there, with
  defectline compile --gpus 0 --resources small --namespace defectline \\
      --service-account defectline-models --kserve cpu=500m \\
      --s3-secret s3-keys --s3-endpoint $ENDPOINT \\
      --kserve review=s3://store --kserve review_secret=defectline-review
TEXT
}

load() {
  local image images
  images=$(docker image ls --format '{{.Repository}}:{{.Tag}}' \
    --filter 'reference=defectline-*' --filter 'reference=*/defectline-*' \
    --filter 'reference=*/*/defectline-*' | sed '/:<none>$/d' | sort -u)
  if [ -z "$images" ]; then
    echo "up.sh: no image called defectline-… here; run make images first" >&2
    exit 2
  fi
  while read -r image; do
    say "$image"
    kind load docker-image --name "$CLUSTER" "$image"
  done <<<"$images"
}

case ${1:-up} in
  up)
    need docker kind kubectl helm jq
    cluster
    pipelines
    serving
    store
    usage
    ;;
  load)
    need docker kind
    load
    ;;
  down)
    need kind
    kind delete cluster --name "$CLUSTER"
    ;;
  *)
    echo "up.sh: got $1, expected up, load or down" >&2
    exit 2
    ;;
esac
