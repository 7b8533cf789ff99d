# Installs what rows need; sourced by run and matrix, which set `here`, `root` and `tools`.
# shellcheck shell=bash disable=SC2154

missing=$tools/missing
rm -rf "$missing"
mkdir -p "$missing" "$tools/bin"

# install NAME WHAT...: runs WHAT once per version of its recipe; a failure is NAME's row's fate.
install() {
    local name=$1 recipe=$2
    shift 2
    local stamp=$tools/$name.installed
    [[ -f $stamp && $(<"$stamp") == "$recipe" ]] && return
    echo "installing $name" >&2
    if "$@" >"$tools/$name.log" 2>&1; then
        printf '%s' "$recipe" >"$stamp"
    else
        tail -n 5 "$tools/$name.log" >&2
        tail -n 1 "$tools/$name.log" >"$missing/$name"
    fi
}

python_packages() {
    python3 -m venv "$tools/python" &&
        "$tools/python/bin/pip" install --quiet --disable-pip-version-check \
            -r "$here/requirements.txt"
}

js_packages() {
    mkdir -p "$tools/js" && cp "$here"/clients/js/* "$tools/js/" &&
        (cd "$tools/js" && npm install --no-audit --no-fund --ignore-scripts)
}

java_packages() {
    mkdir -p "$tools/java" && cp "$here"/clients/java/* "$tools/java/" &&
        (cd "$tools/java" &&
            mvn -q -B dependency:copy-dependencies "-DoutputDirectory=$tools/java/jars" &&
            javac -cp 'jars/*' -d . ./*.java &&
            mkdir -p META-INF/services &&
            echo Zstd >META-INF/services/io.opentelemetry.sdk.common.export.Compressor)
}

go_tool() {
    # the first proxy alone: a missing version is an error at once, not a clone
    local proxy
    proxy=$(go env GOPROXY) || return
    GOPROXY=${proxy%%[,|]*} GOBIN=$tools/bin go install "$1"
}

telemetrygen() {
    go_tool github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@v0.161.0
}

# its release has no go.mod
h2spec() {
    (cd "$here/clients/h2spec" &&
        go build -o "$tools/bin/h2spec" github.com/summerwind/h2spec/cmd/h2spec)
}

go_client() { (cd "$here/clients/go" && go build -o "$tools/bin/go-signals" .); }

rust_client() {
    cargo build --locked --manifest-path "$here/clients/rust/Cargo.toml" \
        --target-dir "$tools/rust"
}

collector() { "$root/bench/peers/collector.sh" "${TMPDIR:-/tmp}/otelcol-peer"; }

sums() { cat "$@" | cksum; }
