# As much of nixpkgs' `lib` as a module needs to be evaluated without nixpkgs: the few functions that
# deploy/nixos/zeta-bft.nix uses, and a small `evalModules` that merges definitions by priority and type, refuses options
# that nobody declared and values of another type. What it does, it does as nixpkgs does; what it does not know, fails.
let
  inherit (builtins)
    all any attrNames attrValues concatLists concatMap concatStringsSep elem filter foldl' genList hasAttr head isAttrs
    isBool isFunction isInt isList isString length listToAttrs map mapAttrs match replaceStrings sort split
    stringLength substring tail toJSON;

  # ---- attribute sets, lists, texts ----
  nameValuePair = name: value: { inherit name value; };
  filterAttrs = keep: set: listToAttrs (concatMap
    (n: if keep n set.${n} then [ (nameValuePair n set.${n}) ] else [ ])
    (attrNames set));
  mapAttrs' = f: set: listToAttrs (map (n: f n set.${n}) (attrNames set));
  mapAttrsToList = f: set: map (n: f n set.${n}) (attrNames set);
  genAttrs = names: f: listToAttrs (map (n: nameValuePair n (f n)) names);
  optional = yes: x: if yes then [ x ] else [ ];
  optionals = yes: xs: if yes then xs else [ ];
  optionalAttrs = yes: set: if yes then set else { };
  optionalString = yes: text: if yes then text else "";
  unique = foldl' (seen: x: if elem x seen then seen else seen ++ [ x ]) [ ];
  last = xs: builtins.elemAt xs (length xs - 1);
  hasPrefix = start: text: substring 0 (stringLength start) text == start;
  hasSuffix = end: text:
    let at = stringLength text - stringLength end; in at >= 0 && substring at (stringLength end) text == end;
  removeSuffix = end: text: if hasSuffix end text then substring 0 (stringLength text - stringLength end) text else text;
  removePrefix = start: text:
    if hasPrefix start text then substring (stringLength start) (stringLength text) text else text;
  toLower = replaceStrings (splitChars "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (splitChars "abcdefghijklmnopqrstuvwxyz");
  splitChars = text: genList (n: substring n 1 text) (stringLength text);
  splitString = by: text: filter isString (split (escapeRegex by) text);
  escapeRegex = replaceStrings
    [ "\\" "[" "{" "(" ")" "^" "$" "?" "*" "+" "|" "." ]
    [ "\\\\" "\\[" "\\{" "\\(" "\\)" "\\^" "\\$" "\\?" "\\*" "\\+" "\\|" "\\." ];
  escapeShellArg = arg:
    if match "[[:alnum:],._+:@%/-]+" (toString arg) != null
    then toString arg
    else "'${replaceStrings [ "'" ] [ "'\\''" ] (toString arg)}'";

  makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);

  # ---- properties ----
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  isType = type: x: isAttrs x && x._type or null == type;

  # mkIf and mkMerge moved from a set to its values, so that its names can be seen before any condition is known.
  pushDown = x:
    if isType "merge" x then concatMap pushDown x.contents
    else if isType "if" x then map (mapAttrs (_: mkIf x.condition)) (pushDown x.content)
    else if isType "override" x then map (mapAttrs (_: mkOverride x.priority)) (pushDown x.content)
    else if isAttrs x then [ x ]
    else throw "a set of definitions is expected, not ${toJSON x}";

  # The plain values of one option's definitions, each with its priority.
  discharge = priority: x:
    if isType "merge" x then concatMap (discharge priority) x.contents
    else if isType "if" x then (if x.condition then discharge priority x.content else [ ])
    else if isType "override" x then discharge x.priority x.content
    else [{ inherit priority; value = x; }];

  strongest = defs:
    let best = foldl' (b: d: if d.priority < b then d.priority else b) 9999 defs;
    in map (d: d.value) (filter (d: d.priority == best) defs);

  # ---- types ----
  showPath = concatStringsSep ".";
  same = path: values:
    if all (v: v == head values) values then head values
    else throw "The option `${showPath path}' has conflicting definition values: ${toJSON values}";
  mkType = name: check: { inherit name check; merge = same; };
  mergeAs = type: path: values:
    let wrong = filter (v: !type.check v) values;
    in
    if wrong == [ ] then type.merge path values
    else throw "A definition for option `${showPath path}' is not of type `${type.name}': ${toJSON (head wrong)}";

  isDerivation = x: isAttrs x && x.type or null == "derivation";
  int = mkType "signed integer" isInt;
  str = mkType "string" isString;
  refined = type: name: check: type // { inherit name; check = x: type.check x && check x; };
  listOf = type: {
    name = "list of ${type.name}";
    check = isList;
    merge = path: lists: map (v: mergeAs type path (strongest (discharge 100 v))) (concatLists lists);
  };
  attrsOf = type: {
    name = "attribute set of ${type.name}";
    check = isAttrs;
    merge = path: sets:
      let
        pushed = concatMap pushDown sets;
        defs = name: concatMap (set: optionals (hasAttr name set) (discharge 100 set.${name})) pushed;
        names = filter (name: defs name != [ ]) (unique (concatMap attrNames pushed));
      in
      genAttrs names (name: mergeAs type (path ++ [ name ]) (strongest (defs name)));
  };
  nullOr = type: {
    name = "null or ${type.name}";
    check = x: x == null || type.check x;
    merge = path: values: if all (v: v == null) values then null else mergeAs type path values;
  };
  oneOf = types: {
    name = concatStringsSep " or " (map (type: type.name) types);
    check = x: any (type: type.check x) types;
    merge = path: values:
      let fits = filter (type: all type.check values) types;
      in if fits == [ ] then same path values else mergeAs (head fits) path values;
  };
  submodule = module: {
    name = "submodule";
    check = x: isAttrs x || isFunction x;
    merge = path: values:
      (evalIn path { name = last path; } ([ module ] ++ map (v: { config = v; }) values)).config;
  };
  types = {
    inherit int str listOf attrsOf nullOr oneOf submodule;
    bool = mkType "boolean" isBool;
    package = mkType "package" isDerivation;
    path = mkType "absolute path" (x: isDerivation x || builtins.isPath x || isString x && hasPrefix "/" x);
    lines = str // { merge = _: concatStringsSep "\n"; };
    port = refined int "16 bit port" (x: x >= 0 && x <= 65535);
    ints = {
      positive = refined int "positive integer" (x: x > 0);
      unsigned = refined int "unsigned integer" (x: x >= 0);
    };
    strMatching = pattern: refined str "string matching ${pattern}" (x: match pattern x != null);
    enum = values: mkType "one of ${toJSON values}" (x: elem x values);
  };

  # ---- modules ----
  isOption = isType "option";
  mergeOptions = path: a: b:
    if isOption a || isOption b then throw "The option `${showPath path}' is declared twice"
    else a // mapAttrs (n: v: if hasAttr n a then mergeOptions (path ++ [ n ]) a.${n} v else v) b;

  evalTree = path: options: pushed:
    let
      defs = name: concatMap (set: optional (hasAttr name set) set.${name}) pushed;
      unknown = filter (name: !hasAttr name options) (concatMap attrNames pushed);
      value = name: option:
        let at = path ++ [ name ]; in
        if !isOption option then evalTree at option (concatMap pushDown (defs name))
        else
          let
            given = concatMap (discharge 100) (defs name);
            # nixpkgs puts mkOptionDefault around a default: priorities inside of it are its own affair.
            default = optionals (option ? default) (map (d: d // { priority = 1500; }) (discharge 1500 option.default));
          in
          if option.readOnly or false && length given > 1 then throw "The option `${showPath at}' is read-only"
          else if given ++ default == [ ] then throw "The option `${showPath at}' was accessed but has no value defined"
          else mergeAs option.type at (strongest (given ++ default));
    in
    if unknown != [ ]
    then throw "The option `${showPath (path ++ [ (head unknown) ])}' does not exist"
    else mapAttrs value options;

  evalIn = path: args: modules:
    let
      load = module: if builtins.isPath module then load (import module) else if isFunction module then module all' else module;
      all' = args // { inherit config lib; inherit (result) options; };
      close = module:
        let m = load module; in
        concatMap close (m.imports or [ ]) ++ [ m ];
      closed = concatMap close modules;
      structured = m: m ? options || m ? config || m ? imports;
      options = foldl' (mergeOptions path) { } (map (m: m.options or { }) closed);
      config = evalTree path options
        (concatMap (m: pushDown (if structured m then m.config or { } else m)) closed);
      result = { inherit config options; };
    in
    result;

  lib = {
    inherit all any attrNames attrValues concatLists concatMap concatStringsSep elem filter genList head length
      listToAttrs map mapAttrs replaceStrings sort tail
      nameValuePair filterAttrs mapAttrs' mapAttrsToList genAttrs optional optionals optionalAttrs optionalString unique
      last hasPrefix hasSuffix removePrefix removeSuffix splitString toLower escapeShellArg isDerivation makeBinPath
      mkIf mkMerge mkOverride types;
    concatMapStringsSep = by: f: xs: concatStringsSep by (map f xs);
    escapeShellArgs = args: concatStringsSep " " (map escapeShellArg args);
    licenses.asl20 = { spdxId = "Apache-2.0"; };
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkOption = option:
      let known = [ "default" "defaultText" "description" "example" "readOnly" "internal" "type" ];
      in
      if all (n: elem n known) (attrNames option) && option ? type then option // { _type = "option"; }
      else throw "mkOption: ${toJSON (attrNames option)}";
    mkEnableOption = what: lib.mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
    literalExpression = text: { _type = "literalExpression"; inherit text; };
    evalModules = { modules, specialArgs ? { } }: evalIn [ ] specialArgs modules;
  };
in
lib
