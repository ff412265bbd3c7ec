# The one binary. `pkgs.callPackage ./package.nix { }`; protos compile without protoc.
{ lib, rustPlatform }:

rustPlatform.buildRustPackage {
  pname = "zeta-bft";
  version = (builtins.fromTOML (builtins.readFile ../../Cargo.toml)).package.version;
  src = builtins.path {
    name = "zeta-bft-source";
    path = ../..;
    # What a build reads, so that a change of a document or a test does not rebuild it.
    filter = path: _type:
      let relative = lib.removePrefix (toString ../.. + "/") (toString path);
      in builtins.any (start: relative == start || lib.hasPrefix "${start}/" relative)
        [ "Cargo.toml" "Cargo.lock" "build.rs" "src" "proto" "deploy" ];
  };
  cargoLock.lockFile = ../../Cargo.lock;
  postInstall = ''
    install -D -m 755 deploy/k3s/mint-credential $out/share/zeta-bft/k3s/mint-credential
    install -D -m 644 deploy/k3s/rbac.yaml $out/share/zeta-bft/k3s/rbac.yaml
  '';
  # They need a node of their own and its root: `tests/run` in a checkout runs them.
  doCheck = false;
  meta = {
    description = "A per-node committee of three vendors that watches its members and the node's k3s, and repairs by quorum";
    license = lib.licenses.asl20;
    mainProgram = "zeta-bft";
    platforms = lib.platforms.linux;
  };
}
