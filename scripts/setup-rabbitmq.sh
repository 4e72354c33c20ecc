#!/bin/sh
# Sees to it that a private RabbitMQ can be started here: the installed one, or one in a container. Installs it with
# apt or brew where neither is there. Safe to run again. It starts no RabbitMQ and leaves a running one alone.
set -eu

say() { echo "rabbitmq: $*"; }
fail() { echo "rabbitmq: $*" >&2; exit 1; }

installed() {
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null ||
    [ -x /opt/homebrew/sbin/rabbitmq-server ] || [ -x /usr/local/sbin/rabbitmq-server ]
}
docker_answers() { command -v docker >/dev/null && docker version >/dev/null 2>&1 </dev/null; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
# without a terminal nobody can type a password for sudo
may_be_root() { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; }; }

# Debian's package starts RabbitMQ as a system service. This says no to that, as debootstrap and Docker images do; a
# machine that has a policy of its own keeps it.
policy=/usr/sbin/policy-rc.d
forbid_services() {
  [ -e $policy ] && return
  printf '#!/bin/sh\nexit 101\n' | root tee $policy >/dev/null
  root chmod 755 $policy
  trap 'root rm -f $policy' EXIT
  trap 'exit 130' INT TERM
}

install_with_apt() {
  say "installing rabbitmq-server with apt (about 100 MB). It is not started as a service."
  forbid_services
  root apt-get update -qq </dev/null || return 1
  root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server \
    </dev/null >/dev/null || return 1
  if [ -d /run/systemd/system ]; then
    root systemctl disable --quiet rabbitmq-server </dev/null || true # nor at the next start of the machine
  fi
}

if [ -n "${JOBRUNNER_TEST_URL:-}" ]; then say "taking the broker of JOBRUNNER_TEST_URL"; exit 0; fi
if installed; then exit 0; fi

case $(uname -s) in
  Darwin)
    hint="brew install rabbitmq"
    if command -v brew >/dev/null; then
      say "installing rabbitmq with brew. It is not started as a service."
      brew install --quiet rabbitmq </dev/null && exit 0
    fi ;;
  *)
    hint="install the package rabbitmq-server"
    if command -v dnf >/dev/null; then hint="sudo dnf install rabbitmq-server"; fi
    if command -v apt-get >/dev/null; then
      hint="sudo apt install rabbitmq-server"
      if may_be_root && install_with_apt && installed; then exit 0; fi
    fi ;;
esac

if docker_answers; then
  say "no rabbitmq-server here; a container will be used."
  exit 0
fi
fail "RabbitMQ is missing and could not be installed, and Docker does not answer.  $hint"
