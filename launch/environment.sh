# shellcheck shell=bash
# Sourced by the scripts of this folder: finds a Python and keeps a virtual environment in step with pyproject.toml.
# Everything said here goes to stderr, so that a script's stdout is its program's alone.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"

say() { printf 'launch: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 4
}

# Print the interpreters to try, the likeliest first.
candidates() {
  printf '%s\n' python3 python3.13 python3.12 python3.11 python3.10 python
}

# Print the first interpreter from 3.10 up that can make a virtual environment.
find_python() {
  local candidate without_pip=""
  while read -r candidate; do
    "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
    if "$candidate" -c 'import ensurepip' 2>/dev/null; then
      echo "$candidate"
      return
    fi
    if [ -z "$without_pip" ] && "$candidate" -m pip --version >/dev/null 2>&1; then
      without_pip=$candidate
    fi
  done < <(candidates)
  [ -n "$without_pip" ] || fail "no usable Python: this needs Python 3.10 or newer with its venv module, and found" \
    "$(python3 --version 2>&1 || echo no python3). On Debian, Ubuntu and JetPack: apt install python3 python3-venv"
  echo "$without_pip"
}

# Print the version of the virtual environment's own interpreter, nothing where it does not run.
venv_version() {
  "$venv/bin/python" -c 'import platform; print(platform.python_version())' 2>/dev/null || true
}

# Whether $venv was made to its end, in this place, and its Python is still the same.
is_whole() {
  [ ! -e "$venv/unfinished" ] && grep -qxF "$venv $(venv_version)" "$venv/made-for" 2>/dev/null
}

# Make $venv anew with interpreter $1.
make_venv() {
  local packages
  [ ! -e "$venv" ] || say "$venv is unfinished, moved or of another Python: making it anew"
  rm -rf "$venv"
  say "making $venv with $("$1" --version)"
  mkdir -p "$venv"
  touch "$venv/unfinished"
  if "$1" -c 'import ensurepip' 2>/dev/null; then
    "$1" -m venv "$venv" >&2
  else  # Debian without python3-venv, for example a fresh JetPack: the system's pip brings one
    "$1" -m venv --without-pip "$venv" >&2
    packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$1" -m pip install -qq --target "$packages" pip >&2
  fi
  echo "$venv $(venv_version)" >"$venv/made-for"
  rm "$venv/unfinished"
}

# Bring $venv to this project with extras $1, made with interpreter $2 (default: the first that fits).
# Does nothing when that was done before and pyproject.toml is still the same. $3: function to run before pip.
prepare() {
  local extras=$1 python=${2:-} before=${3:-true} key
  if ! is_whole; then
    [ -n "$python" ] || python=$(find_python)
    make_venv "$python"
  fi
  key="$(cksum <"$root/pyproject.toml") [$extras]"
  if grep -qxF "$key" "$venv/installed" 2>/dev/null; then
    return
  fi
  say "installing this project with [$extras] into $venv: minutes the first time, not again until pyproject.toml changes"
  touch "$venv/unfinished"
  "$before"
  if ! "$venv/bin/python" -m pip install -qq --editable "${root}[$extras]" >&2; then
    rm "$venv/unfinished"
    fail "pip could not install [$extras], see its message above: is the network up?"
  fi
  echo "$key" >>"$venv/installed"
  rm "$venv/unfinished"
}
