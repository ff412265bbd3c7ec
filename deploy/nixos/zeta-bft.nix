# zeta-bft as a NixOS module: three or more AI personas as services beside k3s, watched and repaired by their own quorum.
#
#   imports = [ .../deploy/nixos/zeta-bft.nix ];
#   zeta.bft.active = true;                         # otto, lior and vera; mode "observe" until you say "act"
#
# Options have the names of `zeta.aiAgents` where they mean the same: enable.<persona>, user, home, tickIntervalSec,
# memoryMax, cpuQuota, restartSec. README.md beside this file has a full example.
#
# What `nixos-rebuild switch` does to a running committee:
#   * Nothing, by itself. A switch restarts all changed units at one moment: every guardian would be away at once, and
#     every AI would be killed in the middle of a tick. So no daemon here is restarted, or stopped and started, because it
#     changed (restartIfChanged = false, and stopIfChanged = false for whoever turns that on).
#   * Instead it starts zeta-bft-rollout, which outlives the switch and goes one by one: hand and warden when nothing is
#     under repair, then each agent once the one before votes again, then each wrapper between two of its ticks. The first
#     failure ends it, with the others on the version they had (rollout.sh).
#   * Every daemon carries the generation that it was started with in its environment. By that the rollout knows who is
#     old, also when an earlier one was interrupted.
#   * Steps of repairs (zeta-bft-rung@) and pages run to their end, and the set-up never runs twice.
#   * A persona that is taken out of `enable` is stopped, as NixOS stops every unit that is gone.
{ config, options, lib, pkgs, ... }:

let
  inherit (lib)
    concatMapStringsSep concatStringsSep escapeShellArgs filterAttrs hasPrefix mapAttrs mapAttrs' mapAttrsToList mkDefault
    mkEnableOption mkIf mkMerge mkOption nameValuePair optional optionalAttrs optionals types unique;

  cfg = config.zeta.bft;
  toml = pkgs.formats.toml { };

  # ---- who takes part ----

  known = {
    otto = { vendor = "anthropic"; command = [ "claude" "--print" "<<autonomous-loop>>" ]; };
    lior = { vendor = "google-gemini"; command = [ "gemini" "-p" "<<autonomous-loop>>" ]; };
    vera = { vendor = "openai"; command = [ "codex" "exec" "<<autonomous-loop>>" ]; };
    # Their vendors ship no command line that was tried: whoever enables them says which it is.
    alexa = { vendor = "alibaba-qwen"; };
    riven = { vendor = "xai-grok"; };
  };

  asked = builtins.attrNames (filterAttrs (_: yes: yes) cfg.enable);
  undeclared = builtins.filter (name: !(cfg.personas ? ${name})) asked;
  personas = filterAttrs (name: _: cfg.enable.${name} or false) cfg.personas;
  names = builtins.attrNames personas;
  on = asked != [ ];

  vendors = unique (mapAttrsToList (_: p: p.vendor) personas);
  users = mapAttrsToList (_: p: p.user) personas;
  inherit (cfg) k3s;
  own = name: "zeta-${name}";
  guardian = name: "zeta-bft-${name}";

  # ---- node.toml ----

  without = value: set: filterAttrs (_: v: v != value) set;
  rungs = map (without null);

  persona = name: p: without null {
    inherit (p) vendor command;
    tick_interval = "${toString p.tickIntervalSec}s";
    tick_limit = p.tickLimit;
    inherit (p) probe;
    working_dir = p.workingDir;
    unit = if p.unit == "${own name}.service" then null else p.unit;
    user = if p.user == own name then null else p.user;
    patterns = if p.patterns == [ ] then null else p.patterns;
    ladder = if p.ladder == null then null else rungs p.ladder;
    budget = if p.budget == { } then null else p.budget;
  };

  subject = s: without null (builtins.removeAttrs s [ "rungWritePaths" ] // {
    ladder = if s.ladder == null then null else rungs s.ladder;
    budget = if s.budget == { } then null else s.budget;
  });

  settings = {
    inherit (cfg) cluster node mode f q metrics;
    personas = mapAttrs persona personas;
  }
  // optionalAttrs cfg.allowSharedUid { allow_shared_uid = true; }
  // optionalAttrs (cfg.subjects != { }) { subjects = mapAttrs (_: subject) cfg.subjects; }
  // optionalAttrs (cfg.policy != { }) { inherit (cfg) policy; }
  // optionalAttrs (cfg.page != null) { page = without null cfg.page; }
  // optionalAttrs (cfg.tcp != { }) { tcp = mapAttrs (_: without null) cfg.tcp; };

  # A rung that reads as harm, an unknown vendor, two scrape ports on one address: refused when the system is built.
  generated = toml.generate "zeta-bft-node.toml" cfg.settings;
  nodeToml =
    if cfg.checkConfig
    then
      pkgs.runCommand "zeta-bft-node.toml" { } ''
        ${program} --dir "$TMPDIR/zeta-bft" check-config ${generated}
        cp ${generated} $out
      ''
    else generated;

  # ---- units: those of deploy/systemd, and what differs here ----

  program = "${cfg.package}/bin/zeta-bft";

  read = file:
    let
      parse = import ./unit-file.nix { inherit lib; };
      path = ../systemd + "/${file}";
    in
    mapAttrs
      (_: mapAttrs (_: value: builtins.replaceStrings [ "/usr/bin/zeta-bft" ] [ program ] value))
      (mapAttrs (_: mapAttrs (_: v: if builtins.isList v then concatStringsSep "\n" v else v))
        (parse (builtins.readFile path)));

  lines = text: if text == "" then [ "" ] else lib.splitString "\n" text;
  words = text: builtins.filter (word: word != "") (lib.splitString " " (builtins.replaceStrings [ "\n" ] [ " " ] text));
  single = values: if builtins.length values == 1 then builtins.head values else values;

  # [Unit] in the words of NixOS. Documentation= names files of the Debian package.
  common = unit: {
    description = unit.Description;
    after = words (unit.After or "");
    before = words (unit.Before or "");
    wants = words (unit.Wants or "");
    requires = words (unit.Requires or "");
    bindsTo = words (unit.BindsTo or "");
    partOf = words (unit.PartOf or "");
    conflicts = words (unit.Conflicts or "");
    unitConfig = builtins.removeAttrs unit [
      "Description" "Documentation" "After" "Before" "Wants" "Requires" "BindsTo" "PartOf" "Conflicts"
    ];
  };

  # A service that no switch touches.
  service = file: changes:
    let
      unit = read file;
      settings = mapAttrs (_: text: single (lines text)) unit.Service;
      # A program's libraries lie anywhere in the store; nothing in it can be written by anybody.
      exec = optionalAttrs (settings ? ExecPaths) { ExecPaths = "${program} ${builtins.storeDir}"; };
    in
    common unit.Unit // {
      serviceConfig = settings // exec // changes settings;
      wantedBy = if lib.hasSuffix "@.service" file then [ ] else words (unit.Install.WantedBy or "");
      restartIfChanged = false;
      stopIfChanged = false;
    };

  short = value: builtins.substring 0 16 (builtins.hashString "sha256" (builtins.unsafeDiscardStringContext (builtins.toJSON value)));
  configWord = short cfg.settings;

  # The daemon's version, its configuration and its unit, as one word that it carries.
  stamped = inputs: service:
    let
      environment = service.serviceConfig.Environment or [ ];
      generation = short [ (toString cfg.package) inputs service ];
    in
    service // {
      serviceConfig = service.serviceConfig // {
        Environment = (if builtins.isList environment then environment else [ environment ])
          ++ [ "ZETA_BFT_CONFIG=${configWord}" "ZETA_BFT_GENERATION=${generation}" ];
      };
    };
  generationOf = name:
    let word = "ZETA_BFT_GENERATION=";
    in lib.removePrefix word (lib.last (builtins.filter (hasPrefix word)
      daemons.${name}.serviceConfig.Environment));

  # One of the five has its own file; another persona gets otto's with its name.
  wrapperFile = name: if builtins.pathExists (../systemd + "/${own name}.service") then "${own name}.service" else "zeta-otto.service";
  wrapper = name: p:
    let
      file = wrapperFile name;
      named = builtins.replaceStrings [ "otto" ] [ name ];
      rename = value:
        if file == "${own name}.service" then value
        else if builtins.isList value then map named value else named value;
      base = service file (_: { });
    in
    base // {
      description = rename base.description;
      wants = rename base.wants;
      after = rename base.after;
      serviceConfig = mapAttrs (_: rename) base.serviceConfig // {
        User = p.user;
        WorkingDirectory = if p.workingDir == null then p.home else p.workingDir;
        MemoryMax = p.memoryMax;
        CPUQuota = p.cpuQuota;
        RestartSec = "${toString p.restartSec}s";
        Environment = [
          "HOME=${p.home}"
          "PATH=${concatStringsSep ":" (
            optional (p.path != [ ]) (lib.makeBinPath p.path)
            ++ [ "${p.home}/.bun/bin" "${p.home}/.local/bin" "${p.home}/.local/share/mise/shims" ]
            ++ [ "/run/wrappers/bin" "/run/current-system/sw/bin" ])}"
        ];
      };
    };

  # As zeta-bft gives them out: the first address for the first persona by name, then port by port.
  wrapperAddress = index:
    let
      parts = builtins.match "(.+):([0-9]+)" cfg.metrics.wrappers;
      host = builtins.head parts;
      first = builtins.fromJSON (builtins.elemAt parts 1);
      # The rollout asks on the loopback, also a port that listens everywhere. Port 0 is any, and nobody knows which.
      local = { "0.0.0.0" = "127.0.0.1"; "[::]" = "[::1]"; }.${host} or host;
    in
    if parts == null || first == 0 then "" else "${local}:${toString (first + index)}";

  wrapperUnit = name: lib.removeSuffix ".service" personas.${name}.unit;
  # Each wrapper reads its own section; a change of another persona's is no reason to end its process.
  daemons = {
    zeta-bft-hand = stamped cfg.settings (service "zeta-bft-hand.service" (_: { }));
    zeta-bft-warden = stamped cfg.settings (service "zeta-bft-warden.service" (_: { }));
    "zeta-bft-agent@" = stamped cfg.settings (service "zeta-bft-agent@.service" (s:
      optionalAttrs (farServers ++ cfg.tcpAllow != [ ]) { IPAddressAllow = [ s.IPAddressAllow ] ++ farServers ++ cfg.tcpAllow; }));
  } // mapAttrs' (name: p: nameValuePair (wrapperUnit name) (stamped cfg.settings.personas.${name} (wrapper name p))) personas;

  # Beyond the loopback agents reach the addresses of other nodes' API servers that a subject names, what `tcpAllow` names, and
  # no other.
  farServers =
    let
      address = url: builtins.match "https://\\[?([0-9a-fA-F:.]+)]?:[0-9]+/?" url;
      # What is none is refused by check-config.
      known = urls: builtins.filter (found: found != null) (map address urls);
    in
    unique (lib.concatLists (lib.concatLists (mapAttrsToList (_: s: optionals (s.others != null) (known s.others)) cfg.subjects)));

  # ---- the rights of the agents' credential in the cluster ----

  rights = "${cfg.package}/share/zeta-bft/k3s/rbac.yaml";
  # NixOS has had the option since 24.11, and it counts only where NixOS itself runs k3s.
  hasManifests = (options.services.k3s or { }) ? manifests;
  byManifests = hasManifests && config.services.k3s.enable;
  givesRights = on && k3s.enable && k3s.giveRights;
  mint = pkgs.writeShellScriptBin "zeta-bft-k3s-credential" ''
    PATH=${lib.makeBinPath [ pkgs.openssl ]}:$PATH exec ${cfg.package}/share/zeta-bft/k3s/mint-credential "$@"
  '';

  ownUsers = filterAttrs (name: p: p.user == own name) personas;

  # A rung is root's: it may write what its own subject needs. With all homes in one list, one AI's symbolic link would turn
  # the step of its own repair against another's home.
  writable = paths: concatMapStringsSep " " (path: "-${path}") (unique paths);
  rungDropIn = paths: {
    overrideStrategy = "asDropin";
    serviceConfig = { ReadWritePaths = writable paths; }
      // optionalAttrs (builtins.any (path: hasPrefix "/home/" path || hasPrefix "/root" path) paths) { ProtectHome = "no"; };
    restartIfChanged = false;
    stopIfChanged = false;
  };
  rungInstances = lib.listToAttrs (lib.concatLists (mapAttrsToList
    (subject: s: map (name: nameValuePair name (rungDropIn s.rungWritePaths))
      (optionals (s.rungWritePaths != [ ]) (rungsOfRoot subject (ladderOf s))))
    (personas // cfg.subjects)));
  # What root does for a k3s by default. On an agent node the second is a restart, and its drop-in is nobody's.
  ladderOf = s:
    if s.ladder != null then s.ladder
    else optionals ((s.kind or null) == "k3s") (map (action: { inherit action; }) [ "move-aside" "copy-aside" ]);

  steps = {
    "zeta-bft-rung@" = service "zeta-bft-rung@.service" (_: {
      # There is no /usr to reinstall a command line into: the personas' lie in their homes, each open to its own rungs.
      ReadWritePaths = writable cfg.rungWritePaths;
    });
    "zeta-bft-page@" = service "zeta-bft-page@.service" (_: { });
    "zeta-bft-room@" = service "zeta-bft-room@.service" (s: mapAttrs
      (_: builtins.replaceStrings [ "/bin/mount" "/bin/rmdir" ] [ "${pkgs.util-linux}/bin/mount" "${pkgs.coreutils}/bin/rmdir" ])
      { inherit (s) ExecStart ExecStopPost; });
    # Not among the daemons that the rollout goes through: systemd restarts it with the warden.
    zeta-bft-lookout = service "zeta-bft-lookout.service" (_: { });
  } // rungInstances;

  # The names of rungs that root carries out: `/` of the subject is written `-`, and `-` is written `\x2d`.
  rungsOfRoot = subject: ladder:
    let
      instance = builtins.replaceStrings [ "-" "/" ] [ "\\x2d" "-" ] subject;
      numbers = builtins.genList (n: n) (count ladder);
      ofRoot = n: builtins.elem (builtins.elemAt ladder n).action [ "run" "move-aside" "copy-aside" ];
    in
    map (n: "zeta-bft-rung@${instance}-${toString n}") (builtins.filter ofRoot numbers);

  agentUnits = map (name: "zeta-bft-agent@${name}.service") names;
  wrapperUnits = mapAttrsToList (_: p: p.unit) personas;
  all = [ "zeta-bft-hand.service" "zeta-bft-warden.service" ] ++ agentUnits ++ wrapperUnits;

  rollout = pkgs.writeShellScript "zeta-bft-rollout" (builtins.readFile ./rollout.sh);
  index = name: builtins.head (builtins.filter (n: builtins.elemAt names n == name) (builtins.genList (n: n) (count names)));
  # By comma, which neither a unit's name nor an address holds.
  rolloutArgs = [ configWord "hand,zeta-bft-hand.service,${generationOf "zeta-bft-hand"}"
    "warden,zeta-bft-warden.service,${generationOf "zeta-bft-warden"}" ]
    ++ map (name: "agent,zeta-bft-agent@${name}.service,${generationOf "zeta-bft-agent@"}") names
    ++ map (name: "wrap,${personas.${name}.unit},${generationOf (wrapperUnit name)},${wrapperAddress (index name)}") names;

  extra = {
    zeta-bft-setup = {
      description = "zeta-bft: keys, roster and journal of this node, once";
      # A finished set-up is never repeated: a roster that is there counts, and a journal that was lost stays lost.
      unitConfig.ConditionPathExists = "!/etc/zeta-bft/roster";
      before = all ++ [ "zeta-bft-lookout.service" ];
      wantedBy = [ "zeta-bft.target" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${program} init --no-start --cluster ${cfg.cluster} --node ${cfg.node}";
        # Their condition is the roster, and at the first switch they were asked before it was there. They come up before
        # any service does at a boot, so they cannot simply be ordered after this one.
        ExecStartPost = "-${config.systemd.package}/bin/systemctl start zeta-bft-hand.socket zeta-bft-warden.socket";
        UMask = "0077";
      };
      restartIfChanged = false;
    };
    zeta-bft-rollout = {
      description = "zeta-bft: takes running daemons to the current generation, one by one";
      after = all ++ [ "zeta-bft-setup.service" ];
      wantedBy = [ "zeta-bft.target" ];
      path = [ cfg.package pkgs.coreutils pkgs.curl pkgs.gnugrep config.systemd.package ];
      serviceConfig = {
        # Not oneshot: the switch must not wait for it, a tick may take half an hour. Active for good, so that a switch
        # runs it again exactly when a generation changed; a newer switch takes over from one that still runs.
        Type = "exec";
        RemainAfterExit = true;
        ExecStart = "${rollout} ${builtins.replaceStrings [ "\\" "%" ] [ "\\\\" "%%" ] (escapeShellArgs rolloutArgs)}";
        TimeoutStopSec = "10s";
      };
      stopIfChanged = false;
    };
  };

  # ---- what the warden may ask PID 1 for ----

  # The text of `zeta-bft polkit`, byte for byte, made before the node exists: `zeta-bft doctor` compares the two. Not in
  # security.polkit.extraConfig, because there it would be one of many rules in 10-nixos.rules and could not be compared, and
  # `zeta-bft init` would write a second one.
  polkitRule = ''
    // What the warden of zeta-bft may ask PID 1 for: that a page be sent. `zeta-bft polkit` prints this rule, and
    // `zeta-bft init --refresh` writes it anew.
    polkit.addRule(function (action, subject) {
        if (action.id !== "org.freedesktop.systemd1.manage-units" || subject.user !== "zeta-bft-warden") {
            return undefined;
        }
        var unit = action.lookup("unit"), verb = action.lookup("verb");
        if (typeof unit !== "string" || verb !== "start") {
            return undefined;
        }
        // Units that exist, not such as are made up in the call.
        if (/transient/.test(action.lookup("polkit.message"))) {
            return undefined;
        }
        if (/^zeta-bft-page@[0-9]{1,20}\.service$/.test(unit)) {
            return polkit.Result.YES;
        }
        return undefined;
    });
  '';

  # ---- what must hold ----

  listed = xs: concatStringsSep ", " xs;
  count = builtins.length;
  shared = unique (builtins.filter (user: count (builtins.filter (u: u == user) users) > 1) users);
  ourServices = builtins.attrNames (daemons // steps // extra);
  ourUnits = ourServices ++ [ "zeta-bft" "zetabft" ];
  orderedAfterK3s = builtins.filter
    (name:
      let s = config.systemd.services.${name};
      in builtins.any (hasPrefix "k3s") (s.after ++ s.requires ++ s.bindsTo ++ s.partOf ++ s.wants))
    ourServices;
  alsoAiAgents = builtins.filter (name: config.zeta.aiAgents.enable.${name} or false) names;

  assertions = [
    {
      assertion = undeclared == [ ];
      message = "zeta.bft.enable names ${listed undeclared}, which zeta.bft.personas does not declare: "
        + "say at least its vendor and command there, or correct the name.";
    }
    {
      assertion = count vendors >= 3;
      message = "zeta.bft: the enabled personas (${listed names}) are of ${toString (count vendors)} vendors "
        + "(${listed vendors}); a committee needs at least three distinct ones. "
        + "Enable a persona of another vendor: zeta.bft.enable.<persona> = true.";
    }
    {
      assertion = cfg.f >= 1 && count vendors >= 2 * cfg.f + 1;
      message = "zeta.bft.f = ${toString cfg.f} needs ${toString (2 * cfg.f + 1)} distinct vendors, and at least f = 1; "
        + "enabled are ${toString (count vendors)}.";
    }
    {
      assertion = cfg.q >= cfg.f + 1 && cfg.q <= count vendors - 1;
      message = "zeta.bft.q = ${toString cfg.q} must be from f+1 = ${toString (cfg.f + 1)} to vendors-1 = "
        + "${toString (count vendors - 1)}: a subject's own vendor does not vote.";
    }
    {
      assertion = cfg.allowSharedUid || shared == [ ];
      message = "zeta.bft: ${listed shared} would run more than one persona, and one AI could end another's wrapper. "
        + "Leave `user` alone, or accept it with zeta.bft.allowSharedUid = true (shown as \"isolation off\").";
    }
    {
      assertion = !builtins.any (user: user == "root" || hasPrefix "zeta-bft-" user) users;
      message = "zeta.bft: a persona runs as root or as a daemon of the committee (${listed users}): it could vote for itself.";
    }
    {
      assertion = !builtins.any (hasPrefix "k3s") (ourUnits ++ wrapperUnits);
      message = "zeta.bft: a unit of ours begins with k3s (${listed wrapperUnits}): k3s-killall.sh would stop it with k3s.";
    }
    {
      assertion = orderedAfterK3s == [ ];
      message = "zeta.bft: ${listed orderedAfterK3s} waits for k3s: it is there for when k3s does not start.";
    }
    {
      assertion = alsoAiAgents == [ ];
      message = "zeta.aiAgents and zeta.bft both run ${listed alsoAiAgents}: set zeta.aiAgents.enable.<persona> = false.";
    }
    {
      assertion = !(config.system.etc.overlay.enable or false) || (config.system.etc.overlay.mutable or true);
      message = "zeta.bft keeps keys and roster in /etc/zeta-bft: set system.etc.overlay.mutable = true.";
    }
    {
      assertion = k3s.enable || (k3s.otherServers == [ ] && !k3s.giveRights);
      message = "zeta.bft.k3s: otherServers and giveRights count only with zeta.bft.k3s.enable = true.";
    }
  ];

  # ---- what the operator finds under /etc ----

  k3sHint =
    if k3s.role == "server"
    then "  Make the agents' credential for k3s:      zeta-bft-k3s-credential     (again before it ends; doctor warns)"
    else "  Get the agents' credential for k3s:       on a server, zeta-bft-k3s-credential --for ${k3s.nodeName} --out DIR";
  hint = ''
    zeta-bft on ${cfg.node}: ${toString (count names)} AI personas of ${toString (count vendors)} vendors, as services beside k3s.
    They repair things; a quorum of ${toString cfg.q} vendors repairs them. Mode: ${cfg.mode}.

    ${concatMapStringsSep "\n" (name: "  ${personas.${name}.unit}  ${personas.${name}.vendor}, user ${personas.${name}.user}, home ${personas.${name}.home}") names}

    First
      Log each command line in as its user:     su - ${if ownUsers == { } then builtins.head users else own (builtins.head (builtins.attrNames ownUsers))}
      Take the operator's key off this node:    /etc/zeta-bft/keys/operator.pem (whoever has it decides who votes)
      See what is still wrong:                  zeta-bft doctor${lib.optionalString k3s.enable "\n${k3sHint}"}
      Watch what it would do:                   zeta-bft history     (mode "observe" touches nothing)
      Let it act:                               zeta.bft.mode = "act"; and nixos-rebuild switch

    Every day
      zeta-bft quorum [SUBJECT]                 who sees what, votes, margin
      zeta-bft explain SUBJECT                  why it was, or was not, repaired
      zeta-bft hold SUBJECT --for 1h --reason R hands off; --all for everything; release ends it
      journalctl -u ${builtins.head wrapperUnits} -f

    Where
      /etc/zeta-bft/node.toml                   generated: change the options of zeta.bft instead
      /etc/zeta-bft/conf.d/*.toml               yours, for what cannot wait; counts over node.toml
      /etc/zeta-bft/keys, roster                made on this node by zeta-bft-setup.service; not in the store; back them up
      /etc/zeta-bft/env/<persona>               the vendor's credentials, root 0600, if the command line has no login
      /var/lib/zeta-bft/warden/warden.journal   receipts and budgets

    After nixos-rebuild switch
      systemctl status zeta-bft-rollout         daemons are taken to the new version one by one, an AI between two ticks
  '';

  # ---- types ----

  nullable = type: description: mkOption { type = types.nullOr type; default = null; inherit description; };
  duration = types.strMatching "[0-9]+(ms|s|m|h|d)";
  unitName = types.strMatching "[A-Za-z0-9:_\\][A-Za-z0-9:_.\\@-]*\\.service";
  rung = types.submodule {
    options = {
      action = mkOption {
        type = types.enum [ "restart" "reset-failed" "run" "stop" "move-aside" "copy-aside" "page" ];
        description = "What is done.";
      };
      argv = nullable (types.listOf types.str) "run: program with its absolute path, and arguments; no shell.";
      limit = nullable duration "run: longest it may take.";
      path = nullable types.path "move-aside, copy-aside: the file or folder.";
      consent = nullable (types.enum [ "quorum" "quorum+operator" ]) "Who must agree; the operator by `zeta-bft approve`.";
    };
  };
  ladder = mkOption {
    type = types.nullOr (types.listOf rung);
    default = null;
    description = "The steps of a repair, in order; null for zeta-bft's own.";
  };
  budget = mkOption {
    type = types.attrsOf (types.oneOf [ types.int types.str ]);
    default = { };
    example = { capacity = 5; refill = "30m"; per_day = 12; };
    description = "How often it may be repaired.";
  };

  personaOptions = { name, config, ... }: {
    options = {
      vendor = mkOption { type = types.str; description = "Whose model it is; distinct vendors are what votes."; };
      command = mkOption { type = types.listOf types.str; description = "The command of one tick; no shell."; };
      probe = nullable (types.listOf types.str) "What tells whether the command starts at all; the vendor's own unless given.";
      user = mkOption {
        type = types.str;
        default = if cfg.user == null then own name else cfg.user;
        description = "The user of its wrapper. `zeta-<persona>` is declared here, any other elsewhere.";
      };
      home = mkOption {
        type = types.path;
        default = if cfg.home == null then "/var/lib/zeta/${name}" else cfg.home;
        description = "Its home: logins and command line tools of the vendor lie here.";
      };
      unit = mkOption { type = unitName; default = "${own name}.service"; description = "Its wrapper's unit."; };
      workingDir = nullable types.path "Where ticks run; its home unless given.";
      path = mkOption { type = types.listOf types.package; default = [ ]; description = "Packages first in its PATH."; };
      tickIntervalSec = mkOption {
        type = types.ints.positive;
        default = cfg.tickIntervalSec;
        description = "Seconds from the end of a tick to the next.";
      };
      tickLimit = mkOption { type = duration; default = "30m"; description = "Longest tick; then it is ended, and failed."; };
      memoryMax = mkOption { type = types.str; default = cfg.memoryMax; description = "Most memory of wrapper and tick."; };
      cpuQuota = mkOption { type = types.str; default = cfg.cpuQuota; description = "Most CPU; 200% is two cores."; };
      restartSec = mkOption {
        type = types.ints.unsigned;
        default = cfg.restartSec;
        description = "Seconds until systemd starts the wrapper again by itself, when the committee did not.";
      };
      rungWritePaths = mkOption {
        type = types.listOf types.path;
        default = [ config.home ];
        defaultText = lib.literalExpression "[ home ]";
        description = "What this persona's own `run` rungs may write, as root: its home, where its command line lies.";
      };
      inherit ladder budget;
      patterns = mkOption {
        type = types.listOf (types.submodule {
          options = {
            regex = mkOption { type = types.str; description = "Matched against each line of a failed tick."; };
            reason = mkOption {
              type = types.enum [ "quota" "auth" "setup" "vendor_down" "network_down" "disk_full" ];
              description = "What it means; never a reason to restart.";
            };
          };
        });
        default = [ ];
        description = "Texts that mean: not the persona's fault. Tried before the vendor's own.";
      };
    };
  };

  subjectOptions = { name, ... }: {
    options = {
      kind = nullable (types.enum [ "unit" "k3s" ]) "What it is; not for `<persona>/agent`.";
      unit = nullable unitName "Its systemd service.";
      user = nullable types.str "The user that its main process must run as.";
      exit0 = nullable (types.enum [ "operator" "fault" ]) "What it means when it ends with 0.";
      rungWritePaths = mkOption {
        type = types.listOf types.path;
        default = optional (!lib.hasSuffix "/agent" name) "/var/lib/rancher/k3s";
        defaultText = lib.literalExpression ''[ "/var/lib/rancher/k3s" ]'';
        description = "What its own rungs may write, as root. No persona's home: whoever owns it could lead them elsewhere.";
      };
      inherit ladder budget;
      # Of a k3s only. Null is the role's default.
      role = nullable (types.enum [ "server" "agent" ]) "Whether the node runs the control plane.";
      api = nullable types.str "Where its API server listens, such as https://127.0.0.1:6443.";
      ca = nullable types.str "The file of the CA that may vouch for it; not in the store.";
      credential = nullable (types.attrsOf types.str) "The files of a narrow credential: token, or certificate and key; not in the store.";
      node_name = nullable types.str "The name of the node's object.";
      kubelet = nullable types.bool "Whether it runs a kubelet with a health port.";
      kube_proxy = nullable types.bool "Whether it runs kube-proxy.";
      mounts = nullable (types.listOf types.str) "Paths whose file systems it needs.";
      others = nullable (types.listOf types.str) "API servers of other nodes, asked only while this one fails.";
      grace = nullable duration "How long a run is left alone after its start.";
      failed_looks = nullable types.ints.positive "How many looks in a row must show a fault.";
      window = nullable types.str "When planned restarts may be, in UTC, such as 02:00-05:00.";
      faults = nullable (types.listOf toml.type) "Rows of the table of faults, before the built-in ones.";
      ignored_faults = nullable (types.listOf types.str) "Built-in rows that are left out.";
    };
  };
in
{
  options.zeta.bft = {
    active = mkEnableOption "the committee of otto, lior and vera";

    enable = mkOption {
      type = types.attrsOf types.bool;
      default = { };
      example = { otto = true; lior = true; vera = true; alexa = false; };
      description = "Which personas run here. otto, lior and vera unless said otherwise once `active` is set.";
    };

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "zeta-bft.";
    };

    user = nullable types.str "One user for every persona: no isolation between them. A user for each unless given.";
    home = nullable types.path "Home of that one user; /var/lib/zeta/<persona> unless given.";
    tickIntervalSec = mkOption { type = types.ints.positive; default = 60; description = "Seconds between ticks."; };
    memoryMax = mkOption { type = types.str; default = "4G"; description = "Most memory of each persona."; };
    cpuQuota = mkOption { type = types.str; default = "200%"; description = "Most CPU of each persona."; };
    restartSec = mkOption { type = types.ints.unsigned; default = 30; description = "systemd's own patience with a wrapper."; };

    personas = mkOption {
      type = types.attrsOf (types.submodule personaOptions);
      default = { };
      description = "The personas that can be enabled. otto, lior, vera, alexa and riven are declared.";
    };

    mode = mkOption {
      type = types.enum [ "observe" "act" ];
      default = "observe";
      description = "observe: runs the whole protocol and touches nothing. act: repairs.";
    };
    cluster = mkOption { type = types.str; default = "zeta"; description = "Name of the cluster."; };
    node = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = "Name of this node. Signed into the roster.";
    };
    f = mkOption { type = types.ints.positive; default = 1; description = "Vendors that may lie or fail at once."; };
    q = mkOption {
      type = types.ints.positive;
      default = cfg.f + 1;
      defaultText = lib.literalExpression "f + 1";
      description = "The quorum: vendors that must agree. Like f it counts when a roster is signed.";
    };
    subjects = mkOption {
      type = types.attrsOf (types.submodule subjectOptions);
      default = { };
      example = { k3s.kind = "k3s"; };
      description = "What else is watched and repaired, and changes to `<persona>/agent`.";
    };
    k3s = {
      enable = mkEnableOption "watching this node's k3s, as the subject k3s; zeta.bft.subjects.k3s says more about it";
      role = mkOption {
        type = types.enum [ "server" "agent" ];
        default = config.services.k3s.role or "server";
        defaultText = lib.literalExpression "config.services.k3s.role";
        description = "Whether the node runs the control plane.";
      };
      nodeName = mkOption {
        type = types.str;
        default = let name = config.services.k3s.nodeName or null; in
          if name == null then lib.toLower config.networking.hostName else name;
        defaultText = lib.literalExpression "lib.toLower config.networking.hostName";
        description = "The name of the node's object in the cluster.";
      };
      giveRights = mkOption {
        type = types.bool;
        default = k3s.enable && k3s.role == "server";
        defaultText = lib.literalExpression ''role == "server"'';
        description = "Let k3s give the agents their rights in the cluster (../k3s/rbac.yaml). One server is enough.";
      };
      otherServers = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "https://10.0.0.2:6443" ];
        description = "API servers of other nodes, by address. When they fail too, it is not this node's fault.";
      };
    };
    policy = mkOption {
      inherit (toml) type;
      default = { };
      example = { node_per_day = 30; hang.patience = "600ms"; };
      description = "Deadlines and budgets, as in [policy] of node.toml.";
    };
    page = mkOption {
      type = types.nullOr (types.submodule {
        options = {
          command = mkOption { type = types.listOf types.str; description = "Gets the text as its last argument, and ZETA_BFT_PAGE_CAUSE, _SUBJECT and _TEXT."; };
          limit = nullable duration "Longest it may take.";
        };
      });
      default = null;
      description = "How a human is called, beside log and metric.";
    };
    metrics = {
      warden = mkOption { type = types.str; default = "127.0.0.1:9464"; description = "The warden's scrape address."; };
      agents = mkOption { type = types.str; default = "127.0.0.1:9465"; description = "The first agent's."; };
      wrappers = mkOption { type = types.str; default = "127.0.0.1:9475"; description = "The first wrapper's."; };
    };
    tcp = mkOption {
      type = types.attrsOf (types.submodule {
        options = {
          listen = mkOption { type = types.str; description = "Where the agent listens: an address and a port."; };
          address = nullable types.str "Where the others find it, if that is elsewhere.";
        };
      });
      default = { };
      description = ''
        Agents, by persona, that listen on TCP with mutual TLS beside their Unix socket. Certificates are made by
        `zeta-bft certify`, on the node, once.
      '';
    };
    tcpAllow = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Addresses beyond the loopback, of peers and of those who may look, that the agents' units let through.";
    };
    allowSharedUid = mkOption {
      type = types.bool;
      default = false;
      description = "Accept personas that share a user. Shown as \"isolation off\" wherever the state is shown.";
    };
    checkConfig = mkOption {
      type = types.bool;
      default = true;
      description = "Let zeta-bft check its node.toml when the system is built. Off for cross builds.";
    };
    rungWritePaths = mkOption {
      type = types.listOf types.path;
      default = [ ];
      description = "What the rungs of every subject may write beside their own `rungWritePaths`.";
    };
    settings = mkOption {
      inherit (toml) type;
      readOnly = true;
      internal = true;
      description = "node.toml as data, made of the options above.";
    };
  };

  config = mkMerge [
    {
      zeta.bft.enable = {
        otto = mkDefault cfg.active;
        lior = mkDefault cfg.active;
        vera = mkDefault cfg.active;
      };
      zeta.bft.personas = mapAttrs (_: mapAttrs (_: mkDefault)) known;
      zeta.bft.settings = settings;
      zeta.bft.subjects = mkIf k3s.enable {
        k3s = mapAttrs (_: mkDefault) ({
          kind = "k3s";
          # NixOS names it so for both roles.
          unit = "k3s.service";
          inherit (k3s) role;
          node_name = k3s.nodeName;
          ca = "/etc/zeta-bft/k3s/ca.crt";
          credential = { certificate = "/etc/zeta-bft/k3s/client.crt"; key = "/etc/zeta-bft/k3s/client.key"; };
        } // optionalAttrs (k3s.otherServers != [ ]) { others = k3s.otherServers; });
      };
    }
    (optionalAttrs hasManifests (mkIf (givesRights && byManifests) { services.k3s.manifests.zeta-bft.source = rights; }))
    (mkIf on {
      inherit assertions;
      warnings = optional cfg.allowSharedUid
        "zeta.bft.allowSharedUid: isolation between personas is off; one AI can end another's wrapper.";

      # Real files that belong to root.
      environment.etc = {
        "zeta-bft/node.toml" = { source = nodeToml; mode = "0644"; };
        "zeta-bft/README" = { text = hint; mode = "0644"; };
        # polkitd sees a file that is replaced here, but not one that changes behind a link.
        "polkit-1/rules.d/49-zeta-bft.rules" = { text = polkitRule; mode = "0644"; };
      };
      environment.systemPackages = [ cfg.package ] ++ optional k3s.enable mint;

      users.users = {
        zeta-bft-warden = { isSystemUser = true; group = "zeta-bft-warden"; description = "zeta-bft warden"; };
        zeta-bft-page = { isSystemUser = true; group = "zeta-bft-page"; description = "zeta-bft pages"; };
      }
      // mapAttrs'
        (name: _: nameValuePair (guardian name) {
          isSystemUser = true;
          group = guardian name;
          description = "zeta-bft agent of ${name}";
        })
        personas
      // mapAttrs'
        (name: p: nameValuePair p.user {
          isSystemUser = true;
          group = p.user;
          description = "Zeta persona ${name}";
          inherit (p) home;
          createHome = true;
          # With a shell, so that its command line can be logged in: `su - zeta-${name}`.
          useDefaultShell = true;
        })
        ownUsers;
      users.groups = mapAttrs (_: _: { })
        ({ zeta-bft-warden = 1; zeta-bft-page = 1; zeta-bft-agents = 1; }
        // mapAttrs' (name: _: nameValuePair (guardian name) 1) personas
        // mapAttrs' (_: p: nameValuePair p.user 1) ownUsers);

      systemd.tmpfiles.rules = [
        "d /run/zeta-bft 0755 root root -"
        "d /run/zeta-bft/rung 0755 root root -"
        "d /var/lib/zeta-bft 0755 root root -"
        "d /etc/zeta-bft 0755 root root -"
        "d /etc/zeta-bft/conf.d 0755 root root -"
        "d /etc/zeta-bft/keys 0700 root root -"
        "d /etc/zeta-bft/env 0700 root root -"
        "d /var/lib/zeta 0755 root root -"
      ] ++ optional (givesRights && !byManifests)
        "L+ /var/lib/rancher/k3s/server/manifests/zeta-bft.yaml - - - - ${rights}"
      ++ mapAttrsToList (_: p: "d ${p.home} 0700 ${p.user} ${p.user} -") ownUsers;

      systemd.services = daemons // steps // extra;

      systemd.sockets.zeta-bft-hand =
        let socket = read "zeta-bft-hand.socket"; in
        common socket.Unit // {
          listenStreams = [ socket.Socket.ListenStream ];
          socketConfig = builtins.removeAttrs socket.Socket [ "ListenStream" ];
          wantedBy = words socket.Install.WantedBy;
        };

      systemd.sockets.zeta-bft-warden =
        let socket = read "zeta-bft-warden.socket"; in
        common socket.Unit // {
          listenStreams = [ cfg.metrics.warden ];
          socketConfig = builtins.removeAttrs socket.Socket [ "ListenStream" ];
          wantedBy = words socket.Install.WantedBy;
        };

      systemd.slices.zetabft =
        let slice = read "zetabft.slice"; in
        { inherit (common slice.Unit) description; sliceConfig = slice.Slice; };

      systemd.targets.zeta-bft =
        let target = read "zeta-bft.target"; in
        common target.Unit // {
          wants = agentUnits;
          wantedBy = words target.Install.WantedBy;
        };

      security.polkit.enable = true;
    })
  ];
}
