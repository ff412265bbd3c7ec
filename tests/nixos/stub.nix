# deploy/nixos/zeta-bft.nix evaluated with the stub of lib.nix: as much of NixOS' options and of pkgs as it touches.
#
#   nix-instantiate --eval --strict --json --store dummy:// tests/nixos/stub.nix --arg user 'MODULE'
#
# gives everything that the tests look at, as JSON. MODULE is what an operator would write into configuration.nix.
{ user ? { } }:

let
  lib = import ./lib.nix;
  inherit (lib) mkOption types;

  text = types.oneOf [ types.bool types.int types.str types.package types.path ];
  unitValue = types.oneOf [ (types.listOf text) text ];
  # A TOML value.
  value = types.oneOf [ types.bool types.int types.str (types.listOf value) (types.attrsOf value) ];
  option = type: default: mkOption { inherit type default; };
  strings = option (types.listOf types.str) [ ];
  table = option (types.attrsOf unitValue) { };

  unit = {
    description = option types.str "";
    after = strings;
    before = strings;
    wants = strings;
    requires = strings;
    bindsTo = strings;
    partOf = strings;
    conflicts = strings;
    wantedBy = strings;
    unitConfig = table;
  };
  units = more: option (types.attrsOf (types.submodule { options = unit // more; })) { };

  nixos = {
    options = {
      assertions = option
        (types.listOf (types.submodule {
          options = { assertion = mkOption { type = types.bool; }; message = mkOption { type = types.str; }; };
        }))
        [ ];
      warnings = strings;
      networking.hostName = option types.str "nixos";
      environment.systemPackages = option (types.listOf types.package) [ ];
      environment.etc = option
        (types.attrsOf (types.submodule {
          options = {
            text = option (types.nullOr types.lines) null;
            source = option (types.nullOr types.path) null;
            mode = option (types.strMatching "0[0-7]{3}|symlink") "symlink";
          };
        }))
        { };
      users.groups = option (types.attrsOf (types.submodule { options.gid = option (types.nullOr types.int) null; })) { };
      users.users = option
        (types.attrsOf (types.submodule {
          options = {
            isSystemUser = option types.bool false;
            isNormalUser = option types.bool false;
            group = option types.str "";
            description = option types.str "";
            home = option types.path "/var/empty";
            createHome = option types.bool false;
            useDefaultShell = option types.bool false;
          };
        }))
        { };
      security.polkit.enable = option types.bool false;
      security.polkit.extraConfig = option types.lines "";
      systemd.package = option types.package (derivation "systemd" { });
      systemd.tmpfiles.rules = strings;
      systemd.services = units {
        serviceConfig = table;
        path = option (types.listOf types.package) [ ];
        restartIfChanged = option types.bool true;
        stopIfChanged = option types.bool true;
        overrideStrategy = option (types.enum [ "asDropinIfExists" "asDropin" ]) "asDropinIfExists";
      };
      systemd.sockets = units { socketConfig = table; listenStreams = strings; };
      systemd.slices = units { sliceConfig = table; };
      systemd.targets = units { };
      # As before 24.11: without `manifests`.
      services.k3s.enable = option types.bool false;
      services.k3s.role = option (types.enum [ "server" "agent" ]) "server";
      # Of the older module, so that its clash with this one can be shown.
      zeta.aiAgents.enable = option (types.attrsOf types.bool) { };
    };
  };

  derivation = name: more: { type = "derivation"; inherit name; outPath = "/nix/store/stub-${name}"; } // more;
  call = f: args: f (builtins.intersectAttrs (builtins.functionArgs f) (pkgs // { inherit lib; }) // args);
  pkgs = {
    callPackage = path: call (import path);
    rustPlatform.buildRustPackage = attrs: derivation "${attrs.pname}-${attrs.version}" { build = attrs; };
    coreutils = derivation "coreutils" { };
    curl = derivation "curl" { };
    gnugrep = derivation "gnugrep" { };
    openssl = derivation "openssl" { };
    util-linux = derivation "util-linux" { };
    formats.toml = { }: { type = value; generate = name: data: derivation name { toml = data; }; };
    runCommand = name: { }: script: derivation name { inherit script; };
    writeShellScript = name: script: derivation name { inherit script; };
    writeShellScriptBin = name: script: derivation name { inherit script; };
  };

  system = lib.evalModules {
    modules = [ nixos ../../deploy/nixos/zeta-bft.nix user ];
    specialArgs = { inherit pkgs; };
  };
  inherit (system) config;
  # A derivation in JSON would be its path alone.
  shown = etc: { inherit (etc) text mode; source = if etc.source == null then null else builtins.removeAttrs etc.source [ "type" "outPath" ]; };
  package = config.zeta.bft.package;
in
{
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  inherit (config) warnings;
  settings = config.zeta.bft.settings;
  etc = lib.mapAttrs (_: shown) config.environment.etc;
  users = config.users.users;
  groups = lib.attrNames config.users.groups;
  polkit = config.security.polkit;
  tmpfiles = config.systemd.tmpfiles.rules;
  manifests = config.services.k3s.manifests or null;
  commands = lib.listToAttrs (map (p: { inherit (p) name; value = p.script or null; }) config.environment.systemPackages);
  inherit (config.systemd) services sockets slices targets;
  program = "${package}/bin/zeta-bft";
  package = { inherit (package) name; inherit (package.build) meta doCheck postInstall; lock = package.build.cargoLock.lockFile; };
}
