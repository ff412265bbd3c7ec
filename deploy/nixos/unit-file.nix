# Reads a unit of deploy/systemd as data: section → key → text, or list of texts where a key is repeated.
#
# The units there are the one description of how each daemon is confined; the module takes them as they are and changes
# only what differs on NixOS. So there is no second copy to fall behind.
{ lib }:

text:
let
  joined = builtins.replaceStrings [ "\\\n" ] [ " " ] text;
  trimmed = line: builtins.head (builtins.match "[[:space:]]*(.*[^[:space:]])?[[:space:]]*" line);
  says = line: line != null && builtins.match "[#;].*" line == null;
  lines = builtins.filter says (map trimmed (lib.splitString "\n" joined));

  add = had: value:
    if had == null then value
    else if builtins.isList had then had ++ [ value ]
    else [ had value ];

  step = { section, units }: line:
    let
      header = builtins.match "\\[([A-Za-z]+)]" line;
      pair = builtins.match "([A-Za-z]+)[[:space:]]*=[[:space:]]*(.*)" line;
      key = builtins.head pair;
      value = builtins.elemAt pair 1;
      had = units.${section} or { };
    in
    if header != null then { section = builtins.head header; units = { ${builtins.head header} = { }; } // units; }
    else if pair == null || section == null then throw "no line of a unit file: ${line}"
    else {
      inherit section;
      units = units // { ${section} = had // { ${key} = add (had.${key} or null) value; }; };
    };
in
(builtins.foldl' step { section = null; units = { }; } lines).units
