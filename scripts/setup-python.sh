#!/bin/sh
# Makes a virtual environment and installs this project into it, in place. Safe to run again.
#
#   scripts/setup-python.sh FOLDER WHAT        scripts/setup-python.sh .venv '.[dev]'
#
# PYTHON=/path/to/python3 chooses the interpreter; else the newest of 3.11 to 3.14 is taken.
set -eu
venv=$1
what=$2

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }

install_hint() {
  case $(uname -s) in
    Darwin) echo "brew install python" ;;
    *) if command -v apt-get >/dev/null; then echo "sudo apt install python3 python3-venv"
       elif command -v dnf >/dev/null; then echo "sudo dnf install python3"
       else echo "install Python 3.14"; fi ;;
  esac
}

find_python() {
  for candidate in "${PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null && fits "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  fail "jobrunner needs Python 3.11 to 3.14, and none was found.  $(install_hint)"
}

# Debian and Ubuntu keep the module that fills a new environment with pip in a package of its own.
install_venv_module() {
  package=python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
  as_root=
  [ "$(id -u)" = 0 ] || as_root="sudo"
  command -v apt-get >/dev/null || fail "$1 cannot make virtual environments: its module ensurepip is missing."
  if [ -n "$as_root" ] && ! { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; then
    fail "the package $package is missing.  sudo apt install $package"
  fi
  say "installing $package with apt"
  $as_root apt-get update -qq </dev/null
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" </dev/null >/dev/null ||
    fail "the package $package could not be installed.  sudo apt install $package"
}

if ! { [ -x "$venv/bin/python" ] && fits "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
  python=$(find_python)
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install_venv_module "$python"
  say "making $venv with $("$python" --version)"
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi

case $what in
  *dev*) say "installing the tools for tests and checks into $venv" ;;
  *) say "installing jobrunner into $venv" ;;
esac
"$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-input --editable "$what" </dev/null
