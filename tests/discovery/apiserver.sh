#!/usr/bin/env bash
# Builds a kube-apiserver from its Go module and prints its path. Its staging modules are required
# as v0.0.0 and replaced by folders of its own tree; here they are replaced by their releases.
#
#   tests/discovery/apiserver.sh FOLDER
set -euo pipefail
version=1.37.2
folder=${1:?folder}/apiserver-$version
[[ -x $folder/kube-apiserver ]] && { echo "$folder/kube-apiserver"; exit; }
mkdir -p "$folder"
cd "$folder"
proxy=$(go env GOPROXY)
{
    printf 'module apiserver\n\ngo 1.26\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$version"
    curl -sSf "${proxy%%[,|]*}/k8s.io/kubernetes/@v/v$version.mod" |
        sed -n "s|^\s*\(k8s.io/[a-z-]*\) => ./staging.*|\t\1 => \1 v0.${version#1.}|p"
    echo ')'
} >go.mod
cat >main.go <<'GO'
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
GO
go mod tidy >&2
go build -trimpath -ldflags='-s -w' -o kube-apiserver . >&2
echo "$folder/kube-apiserver"
