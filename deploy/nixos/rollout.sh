# Brings running daemons to the version and configuration that `nixos-rebuild switch` has put on the node: the warden,
# then one agent after the other, then each wrapper between two of its ticks. Run by zeta-bft-rollout.service as root.
#
#   rollout CONFIG KIND:UNIT:GENERATION…      KIND: warden, agent, wrap-PERSONA
#
# Rules:
#   * one at a time, and the next only when the one before runs the new version and the committee is not worse for it;
#   * nothing is restarted into a configuration that roster and keys do not fit: it would not come back;
#   * what does not run is not started: it was stopped by its operator, or is the committee's to repair;
#   * what is new already is left alone, so the script can be repeated after it was interrupted;
#   * the first failure ends it, and whoever was not reached keeps running as before.
set -euo pipefail

PATIENCE=${ZETA_BFT_ROLLOUT_PATIENCE:-60}        # seconds for one daemon to come back
TICK_PATIENCE=${ZETA_BFT_ROLLOUT_TICK:-7200}     # seconds for a tick to end
PAUSE=${ZETA_BFT_ROLLOUT_PAUSE:-2}               # seconds between two looks
RUN=${ZETA_BFT_ROLLOUT_RUN:-/run/zeta-bft}
PROC=${ZETA_BFT_ROLLOUT_PROC:-/proc}

fail() { printf 'stopped: %s\n' "$*" >&2; exit 1; }

# 0 healthy, 1 degraded, 2 lost, 3 nobody can say.
health() {
    local code=0
    zeta-bft quorum >/dev/null 2>&1 || code=$?
    printf '%s' "$code"
}

# Whether the unit's main process was started with this word in its environment.
was_started_with() {
    local pid
    pid=$(systemctl show --property=MainPID --value -- "$1") || return 1
    [ "${pid:-0}" != 0 ] && grep -zqxF -- "$2" "$PROC/$pid/environ" 2>/dev/null
}

# Repeats a command until it succeeds, at most so many seconds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep "$PAUSE"
    done
}

no_worse_than() { [ "$(health)" -le "$1" ]; }

# A tick that runs now is not to be cut off; a wrapper that shows nothing has none to lose, or is broken.
between_ticks() {
    local address
    address=$(cat "$RUN/$1/metrics" 2>/dev/null) || return 0
    ! curl --silent --max-time 5 "http://$address/metrics" | grep -qx 'zeta_bft_tick_running 1'
}

step() {
    local kind=$1 unit=$2 generation="ZETA_BFT_GENERATION=$3" before
    if ! systemctl is-active --quiet -- "$unit"; then
        printf '%s does not run: it will be new when it starts\n' "$unit"
        return
    fi
    if was_started_with "$unit" "$generation"; then
        printf '%s is new already\n' "$unit"
        return
    fi
    # Whatever is under repair gets the time to settle; a committee that stays degraded must still be able to get a fix.
    until_true "$PATIENCE" no_worse_than 0 || true
    before=$(health)
    case $kind in
    warden) ;;
    *) [ "$before" -lt 3 ] || fail "the warden does not answer; $unit and all after it keep running as they are" ;;
    esac
    case $kind in
    wrap-*) until_true "$TICK_PATIENCE" between_ticks "$kind" || fail "a tick of $unit does not end" ;;
    esac
    printf 'restarting %s\n' "$unit"
    systemctl try-restart -- "$unit" || fail "$unit did not come back; all after it keep running as they are"
    until_true "$PATIENCE" was_started_with "$unit" "$generation" || fail "$unit does not run the new version"
    # While some count by the old policy and some by the new, they do not count each other, and the committee says so.
    local most=$before
    [ "$same_config" = yes ] || most=2
    until_true "$PATIENCE" no_worse_than "$most" || fail "with the new $unit the committee is worse ($(health), was $before)"
}

config=$1
shift
zeta-bft check-config ||
    fail "everything keeps running as it is; sign a roster (zeta-bft roster sign), then systemctl restart zeta-bft-rollout"
same_config=no
if was_started_with zeta-bft-warden.service "ZETA_BFT_CONFIG=$config"; then same_config=yes; fi

for what in "$@"; do
    IFS=: read -r kind unit generation <<<"$what"
    step "$kind" "$unit" "$generation"
done
case $(health) in
0) echo "all that runs is new, and the committee is healthy" ;;
*) until_true "$PATIENCE" no_worse_than 0 || fail "all that runs is new, but the committee is not healthy: see zeta-bft quorum" ;;
esac
