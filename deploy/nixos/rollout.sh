# Brings running daemons to the version and configuration that `nixos-rebuild switch` has put on the node: the hand, the
# warden, then one agent after the other, then each wrapper between two of its ticks. Run by zeta-bft-rollout.service as root.
#
#   rollout CONFIG KIND,UNIT,GENERATION[,SCRAPE-ADDRESS]…      KIND: hand, warden, agent, wrap; only wrap has an address
#
# Rules:
#   * one at a time, and the next only when the one before runs the new version and the committee is not worse for it;
#   * nothing is restarted into a configuration that roster and keys do not fit: it would not come back;
#   * what does not run is not started: it was stopped by its operator, or is the committee's to repair;
#   * what is new already is left alone, so the script can be repeated after it was interrupted;
#   * the first failure ends it, and whoever was not reached keeps running as before;
#   * a wrapper is the AI's own process: nothing it owns is read as a file, what it answers is cut short in time and size,
#     and one that is never between two ticks holds up itself, not the others.
set -euo pipefail

PATIENCE=${ZETA_BFT_ROLLOUT_PATIENCE:-60}        # seconds for one daemon to come back
TICK_PATIENCE=${ZETA_BFT_ROLLOUT_TICK:-7200}     # seconds for the ticks of all wrappers to end
PAUSE=${ZETA_BFT_ROLLOUT_PAUSE:-2}               # seconds between two looks
MOST=1048576                                     # bytes that are read of a scrape
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
    # With a time limit: it is read out of the process's own memory, and a wrapper's is the AI's to arrange.
    [ "${pid:-0}" != 0 ] && timeout 5 grep -zqxF -- "$2" "$PROC/$pid/environ" 2>/dev/null
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

# Whether the wrapper at this address says that no tick runs. One that says nothing, or no end of it, may be in a tick.
# Any process of this machine may answer at that address when the wrapper does not: so no proxy, no redirect, no other
# protocol, none of root's curl settings, and no name that somebody could resolve elsewhere.
between_ticks() {
    local text
    [[ $1 =~ ^(127\.[0-9.]+|\[::1\]):[0-9]+$ ]] || return 1
    text=$(curl --disable --silent --noproxy '*' --proto '=http' --max-redirs 0 --connect-timeout 2 --max-time 5 \
        --max-filesize "$MOST" "http://$1/metrics" 2>/dev/null | head -c "$MOST" | tr -d '\0') || true
    [[ $'\n'$text$'\n' == *$'\nzeta_bft_tick_running 0\n'* ]]
}

# Whether this unit runs and is old; says why not.
is_old() {
    if ! systemctl is-active --quiet -- "$1"; then
        printf '%s does not run: it will be new when it starts\n' "$1"
        return 1
    fi
    if was_started_with "$1" "ZETA_BFT_GENERATION=$2"; then
        printf '%s is new already\n' "$1"
        return 1
    fi
}

step() {
    local kind=$1 unit=$2 generation=$3 before
    is_old "$unit" "$generation" || return 0
    # Whatever is under repair gets the time to settle; a committee that stays degraded must still be able to get a fix.
    until_true "$PATIENCE" no_worse_than 0 || true
    before=$(health)
    case $kind in
    hand | warden) ;;
    *) [ "$before" -lt 3 ] || fail "the warden does not answer; $unit and all after it keep running as they are" ;;
    esac
    # Not try-restart, and not restart of what ended meanwhile: both would make a unit that failed look like the operator's.
    if ! systemctl is-active --quiet -- "$unit"; then
        printf '%s ended meanwhile: it will be new when it starts\n' "$unit"
        return 0
    fi
    printf 'restarting %s\n' "$unit"
    systemctl restart -- "$unit" || fail "$unit did not come back; all after it keep running as they are"
    until_true "$PATIENCE" was_started_with "$unit" "ZETA_BFT_GENERATION=$generation" || fail "$unit does not run the new version"
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

wrappers=()
for what in "$@"; do
    IFS=, read -r kind unit generation address <<<"$what"
    case $kind in
    wrap) if is_old "$unit" "$generation"; then wrappers+=("$what"); fi ;;
    *) step "$kind" "$unit" "$generation" ;;
    esac
done

# Whichever wrapper is between two ticks is next.
end=$((SECONDS + TICK_PATIENCE))
while [ "${#wrappers[@]}" -gt 0 ]; do
    ticking=()
    for what in "${wrappers[@]}"; do
        IFS=, read -r kind unit generation address <<<"$what"
        if between_ticks "$address"; then step "$kind" "$unit" "$generation"; else ticking+=("$what"); fi
    done
    wrappers=("${ticking[@]}")
    if [ "${#wrappers[@]}" -eq 0 ] || [ "$SECONDS" -ge "$end" ]; then break; fi
    sleep "$PAUSE"
done

skipped=
for what in "${wrappers[@]}"; do
    IFS=, read -r kind unit generation address <<<"$what"
    skipped+=" $unit"
    printf 'SKIPPED %s: for %s s it did not say at %s that no tick runs; it keeps the old version. Look at its journal, then: systemctl restart %s\n' \
        "$unit" "$TICK_PATIENCE" "${address:-no address}" "$unit" >&2
done

until_true "$PATIENCE" no_worse_than 0 || fail "all that could be is new, but the committee is not healthy: see zeta-bft quorum"
[ -z "$skipped" ] || fail "all but$skipped are new; systemctl restart zeta-bft-rollout tries again"
echo "all that runs is new, and the committee is healthy"
