#!/usr/bin/env python3
"""Writes Sources/KafkaWire/Generated from Sources/KafkaWire/Schema.

    Tools/generate-kafka-wire.py           writes the files (make generate)
    Tools/generate-kafka-wire.py --check   exits with 1 if they are not what the schemas say

The generated files are committed, and no build plugin makes them. A plugin would compile and run a
generator in every fresh build, hide from reviewers what a schema change does to the code, and make the
package unusable where plugins are refused. What commits can get wrong, a file edited by hand or forgotten,
`--check` finds; and the tests read the schemas with an interpreter of their own and compare it with the
generated code, bytes and field by field, so they find a mistake of this script as well. Python because it
starts in a tenth of the time a Swift script takes to compile, and the client tests need it anyway.

The grammar of the schemas is described in Schema/README.md. One file per API comes out, plus one for the
keys of all APIs and one that decodes any of them. Versions are handled as sets: a condition is written only
where a field is not in all versions in which its struct occurs.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "Sources" / "KafkaWire" / "Schema"
GENERATED = ROOT / "Sources" / "KafkaWire" / "Generated"
NEWEST = 99  # stands for the open end of a range

SCALARS = {  # schema type: Swift type, reader and writer method, bytes
    "bool": ("Bool", "bool", 1), "int8": ("Int8", "int8", 1), "int16": ("Int16", "int16", 2),
    "int32": ("Int32", "int32", 4), "int64": ("Int64", "int64", 8), "uint16": ("UInt16", "uint16", 2),
    "uint32": ("UInt32", "uint32", 4), "float64": ("Double", "float64", 8), "uuid": ("TopicID", "uuid", 16),
}
INTEGERS = {"int8", "int16", "int32", "int64", "uint16", "uint32"}
KEYWORDS = {"protocol", "operator", "default", "in", "is", "as", "where", "case", "switch", "self", "init"}


class SchemaError(Exception):
    """A schema that breaks the grammar, or uses what this generator does not know."""


# ---- reading schemas


def versions_of(text):
    """The versions that a range names."""
    if text == "none":
        return frozenset()
    if text.endswith("+"):
        return frozenset(range(int(text[:-1]), NEWEST + 1))
    low, _, high = text.partition("-")
    return frozenset(range(int(low), int(high or low) + 1))


class Field:
    """A line of a schema, with its children if its type is a struct described in place."""

    def __init__(self, words, line):
        self.name, kind, versions = words[:3]
        self.is_array = kind.startswith("[]")
        self.type = kind.removeprefix("[]")
        self.versions = versions_of(versions)
        self.nullable, self.tagged, self.tag = frozenset(), frozenset(), None
        self.default, self.is_ignorable, self.is_never_compact = None, False, False
        self.children = []
        for word in words[3:]:
            key, _, value = word.partition("=")
            if key == "null":
                self.nullable = versions_of(value)
            elif key == "default":
                self.default = value
            elif key == "tag":
                self.tag = int(value)
            elif key == "tagged":
                self.tagged = versions_of(value)
            elif key == "ignorable":
                self.is_ignorable = True
            elif key == "flexible" and value == "none":
                self.is_never_compact = True
            elif key not in ("key", "entity"):
                raise SchemaError(f"unknown attribute in: {line}")

    @property
    def is_struct(self):
        return self.type[0].isupper()

    @property
    def property(self):
        name = self.name[0].lower() + self.name[1:]
        return f"`{name}`" if name in KEYWORDS else name

    def shape(self):
        """What makes two structs of one name the same struct."""
        return (self.name, self.type, self.is_array, self.versions, self.nullable, self.tagged, self.tag,
                self.default, self.is_ignorable, tuple(child.shape() for child in self.children))


class Section:
    """The fields of a request, a response or another message, and the structs they share."""

    def __init__(self, kind):
        self.kind, self.fields, self.shared = kind, [], {}


def read_schema(path):
    """The headlines of a file as a dictionary, and its sections."""
    headlines, sections, section, stack = {}, [], None, []
    for line in path.read_text().splitlines():
        words = re.findall(r'[^\s="]+="[^"]*"|\S+', line)
        if not words or line.startswith("#"):
            continue
        if line in ("request", "response", "fields"):
            section = Section(line)
            sections.append(section)
            stack = [section.fields]
        elif line == "end":
            section = None
        elif words[0] == "struct" and section:
            children = []
            section.shared[words[1]] = (versions_of(words[2]), children)
            stack = [children]
        elif line.startswith("  ") and section:
            level = (len(line) - len(line.lstrip())) // 2
            field = Field(words, line)
            del stack[level:]
            stack[level - 1].append(field)
            stack.append(field.children)
        elif section is None:
            headlines[words[0]] = words[1:]
        else:
            raise SchemaError(f"{path.name}: {line}")
    return headlines, sections


# ---- from schemas to structs


class Struct:
    """A Swift struct to write: its fields, and the versions in which it occurs."""

    def __init__(self, name, fields):
        self.name, self.fields, self.versions = name, fields, frozenset()


class Message:
    """A message and its nested structs, in the order in which they first occur."""

    def __init__(self, name, section, versions, flexible):
        self.name, self.versions, self.flexible = name, versions, flexible
        self.root = Struct(name, section.fields)
        self.nested = {}
        self.shared = section.shared
        self.visit(self.root, versions, ())

    def visit(self, struct, versions, path):
        if struct.name in path:
            raise SchemaError(f"{self.name}: {struct.name} contains itself")
        struct.versions |= versions
        for field in struct.fields:
            if field.is_struct:
                limit, children = self.shared.get(field.type, (None, field.children))
                inside = versions & field.versions & (limit or versions)
                self.visit(self.nested_struct(field.type, children), inside, path + (struct.name,))

    def nested_struct(self, name, children):
        struct = self.nested.setdefault(name, Struct(name, children))
        if [c.shape() for c in struct.fields] != [c.shape() for c in children]:
            raise SchemaError(f"{self.name}: two different structs are called {name}")
        return struct


def condition(versions, within):
    """Swift that is true for `versions`, given that the version is one of `within`; None if always."""
    versions = versions & within
    if versions == within:
        return None
    low, high = min(versions), max(versions)
    if versions != {v for v in within if low <= v <= high}:
        raise SchemaError(f"versions with a gap: {sorted(versions)}")
    parts = []
    if low > min(within):
        parts.append(f"version >= {low}")
    if high < max(within):
        parts.append(f"version <= {high}")
    return " && ".join(parts)


class StructWriter:
    """Writes one struct as Swift."""

    def __init__(self, message, struct, indent):
        self.message, self.struct, self.indent = message, struct, indent
        self.versions = struct.versions
        self.flexible_versions = self.versions & message.flexible
        self.fields = [f for f in struct.fields if f.versions & self.versions]
        self.label = message.name if struct is message.root else f"{message.name}.{struct.name}"
        if not self.flexible_versions:
            self.flexible = "false"
        elif self.flexible_versions == self.versions:
            self.flexible = "true"
        else:
            self.flexible = "flexible"

    # -- facts about a field

    def type_of(self, field):
        if field.type in SCALARS:
            name = SCALARS[field.type][0]
        else:
            name = {"string": "String", "bytes": "ByteBuffer", "records": "Records"}.get(field.type, field.type)
        name = f"[{name}]" if field.is_array else name
        return f"{name}?" if field.nullable & self.versions or field.type == "records" else name

    def default_of(self, field):
        if field.default == "null":
            return "nil"
        if field.is_array:
            return "[]"
        if field.type == "string":
            return json.dumps(json.loads(field.default or '""'))
        if field.type in INTEGERS or field.type == "float64":
            return field.default or "0"
        if field.type == "bool":
            return field.default or "false"
        return {"uuid": ".zero", "bytes": "ByteBuffer()", "records": "Records()"}.get(
            field.type, f"{field.type}()")

    def is_set(self, field):
        """Swift that is true if the field has another value than its default."""
        default, is_optional = self.default_of(field), self.type_of(field).endswith("?")
        if default in ("[]", '""') and not is_optional:
            return f"!{field.property}.isEmpty"
        if field.type == "bool":
            return field.property if default == "false" else f"!{field.property}"
        return f"{field.property} != {default}"

    def inline(self, field):
        return field.versions & self.versions - (field.tagged & field.versions & self.flexible_versions)

    def tagged(self, field):
        return field.versions & field.tagged & self.flexible_versions

    def minimum(self):
        """The least bytes that the struct takes in any of its versions."""
        return min(sum(self.minimum_of(f, v) for f in self.fields if v in self.inline(f)) +
                   (1 if v in self.flexible_versions else 0) for v in self.versions)

    def minimum_of(self, field, version):
        compact = version in self.message.flexible and not field.is_never_compact
        if field.is_array or field.type in ("bytes", "records"):
            return 1 if compact else 4
        if field.type in SCALARS:
            return SCALARS[field.type][2]
        if field.type == "string":
            return 1 if compact else 2
        if version in field.nullable:
            return 1
        return StructWriter(self.message, self.message.nested[field.type], "").minimum()

    # -- expressions

    def call(self, field, versions, value=None):
        """The argument list and method that read (or, given a value, write) `field` in `versions`."""
        nullable = field.nullable & self.versions or field.type == "records"
        allowed = condition(field.nullable, versions) if field.nullable & versions else "false"
        limit = f", nullable: {allowed}" if nullable and allowed else ""
        compact = f"compact: {'false' if field.is_never_compact else self.flexible}"
        first = [] if value is None else [value]
        prefix = "optional" if nullable else ""

        def named(name):
            return prefix + name[0].upper() + name[1:] if prefix else name

        if field.is_array and field.is_struct:
            if value is None:
                first = [f"of: {field.type}.self"]
            arguments = first + ["version: version", compact]
            if value is None:
                element = StructWriter(self.message, self.message.nested[field.type], "").minimum()
                if element < 1:
                    raise SchemaError(f"{self.label}.{field.name}: elements may take no bytes")
                arguments.append(f"minimumByteCount: {element}")
            return f"{named('array')}({', '.join(arguments)}{limit})"
        if field.is_array:
            if field.type == "string":
                return f"{named('strings')}({', '.join(first + [compact])}{limit})"
            if field.type not in INTEGERS:
                raise SchemaError(f"{self.label}.{field.name}: arrays of {field.type} are not written yet")
            if value is None:
                first = [f"{SCALARS[field.type][0]}.self"]
            return f"{named('integers')}({', '.join(first + [compact])}{limit})"
        if field.type in SCALARS:
            return f"{SCALARS[field.type][1]}({value or ''})"
        return f"{named(field.type)}({', '.join(first + [compact])}{limit})"

    def read(self, field, versions):
        if field.is_struct and not field.is_array:
            return self.struct_forms(
                field, versions,
                f"{field.property} = try {field.type}(from: &reader, version: version)",
                f"{field.property} = try reader.optionalStruct({field.type}.self, version: version)")
        return [f"{field.property} = try reader.{self.call(field, versions)}"]

    def write(self, field, versions, writer):
        target = "&writer" if writer == "writer" else f"&{writer}"
        if field.is_struct and not field.is_array:
            return self.struct_forms(
                field, versions,
                f"try {field.property}.encode(into: {target}, version: version)",
                f"try {writer}.optionalStruct({field.property}, version: version)")
        throws = "" if field.type in SCALARS and not field.is_array else "try "
        return [f"{throws}{writer}.{self.call(field, versions, field.property)}"]

    def struct_forms(self, field, versions, plain, nullable):
        if not field.nullable & versions:
            if self.type_of(field).endswith("?"):
                raise SchemaError(f"{self.label}.{field.name}: null in some versions only")
            return [plain]
        if versions - field.nullable:
            raise SchemaError(f"{self.label}.{field.name}: null in some versions only")
        return [nullable]

    # -- the parts of the struct

    def describe(self, versions):
        low, high = min(versions), max(versions)
        return f"version {low}" if low == high else f"versions {low} to {high}"

    def comment(self, field):
        here = field.versions & self.versions
        words = ["All versions" if here == self.versions else self.describe(here).capitalize()]
        null = field.nullable & here
        if null:
            words.append("may be null" if null == here else f"null in {self.describe(null)}")
        if self.tagged(field):
            words.append(f"tag {field.tag}")
        if field.is_ignorable and here != self.versions:
            words.append("dropped elsewhere")
        return f"/// {'; '.join(words)}."

    def properties(self):
        for field in self.fields:
            yield self.comment(field)
            yield f"package var {field.property}: {self.type_of(field)} = {self.default_of(field)}"
        if self.flexible_versions:
            yield "/// Tagged fields that the schema does not know."
            yield "package var unknownTaggedFields: [TaggedField] = []"

    def initializer(self):
        yield "/// Starts from the defaults of the schema."
        parameters = [f"{f.property}: {self.type_of(f)} = {self.default_of(f)}" for f in self.fields]
        one_line = f"package init({', '.join(parameters)}) {{"
        if len(self.indent) + len(one_line) <= 96:
            yield one_line
        else:
            yield "package init("
            for parameter in parameters[:-1]:
                yield f"    {parameter},"
            yield f"    {parameters[-1]}"
            yield ") {"
        for field in self.fields:
            yield f"    self.{field.property} = {field.property}"
        yield "}"

    def opening(self, is_used):
        if self.struct is self.message.root:
            yield "    try Self.requireVersion(version)"
        if self.flexible == "flexible" and is_used:
            yield f"    let flexible = {condition(self.flexible_versions, self.versions)}"

    def decoder(self):
        yield "package init(from reader: inout WireReader, version: Int16) throws(WireError) {"
        yield from self.opening(is_used=True)
        for field in self.fields:
            inline = self.inline(field)
            if inline:
                yield from guarded(condition(inline, self.versions), self.read(field, inline), "    ")
        if self.flexible_versions:
            yield from guarded(None if self.flexible == "true" else "flexible", self.tag_reader(), "    ")
        yield "}"

    def tag_reader(self):
        known = [f for f in self.fields if self.tagged(f)]
        if not known:
            return ["unknownTaggedFields = try reader.unknownTags()"]
        lines = ["var tags = try reader.openTags()",
                 "while let tag = try reader.nextTag(&tags) {",
                 "    switch tag {"]
        for field in known:
            where = condition(self.tagged(field), self.flexible_versions)
            lines.append(f"    case {field.tag}{f' where {where}' if where else ''}:")
            lines += [f"        {line}" for line in self.read(field, self.tagged(field))]
        return lines + ["    default:",
                        "        unknownTaggedFields.append(try reader.unknownTag(tag))",
                        "    }",
                        "    try reader.closeTag(tags)",
                        "}"]

    def encoder(self):
        yield "package func encode(into writer: inout WireWriter, version: Int16) throws(WireError) {"
        yield from self.opening(is_used=True)
        for field in self.fields:
            yield from self.inline_writer(field)
        if self.flexible_versions:
            yield from guarded(None if self.flexible == "true" else "flexible", self.tag_writer(), "    ")
            if self.flexible == "flexible":
                yield "    else if !unknownTaggedFields.isEmpty {"
                yield f'        throw .fieldNotInVersion(field: "{self.label}.unknownTaggedFields", version: version)'
                yield "    }"
        yield "}"

    def inline_writer(self, field):
        inline, lines = self.inline(field), []
        if inline:
            lines += guarded(condition(inline, self.versions), self.write(field, inline, "writer"), "    ")
        if self.versions - field.versions and not field.is_ignorable:
            refusal = f'        throw .fieldNotInVersion(field: "{self.label}.{field.property}", version: version)'
            if inline and not self.tagged(field):
                lines.append(f"    else if {self.is_set(field)} {{")
            else:
                here = condition(field.versions, self.versions)
                lines.append(f"    if !({here}) && {self.is_set(field)} {{")
            lines += [refusal, "    }"]
        return lines

    def tag_writer(self):
        known = [f for f in self.fields if self.tagged(f)]
        if not known:
            return ["try writer.tags(unknownTaggedFields)"]
        lines = ["var tags = unknownTaggedFields"]
        for field in known:
            where = condition(self.tagged(field), self.flexible_versions)
            lines += [f"if {where + ' && ' if where else ''}{self.is_set(field)} {{",
                      "    var field = WireWriter()"]
            lines += [f"    {line}" for line in self.write(field, self.tagged(field), "field")]
            lines += [f"    tags.append(TaggedField(tag: {field.tag}, writer: field))", "}"]
        return lines + ["try writer.tags(tags)"]

    def body(self):
        yield from self.properties()
        yield ""
        yield from self.initializer()
        yield ""
        if self.struct is not self.message.root:
            yield "package init(from reader: inout WireReader, version: Int16) throws(WireError) {"
            yield from list(self.decoder())[1:]
        else:
            yield from self.decoder()
        yield ""
        yield from self.encoder()

    def text(self, header):
        lines = list(header) + [f"    {line}" if line else "" for line in self.body()] + ["}"]
        return joined_else(f"{self.indent}{line}" if line else "" for line in lines)


def guarded(test, lines, indent):
    """Lines under an `if`, or as they are."""
    if test is None:
        return [indent + line for line in lines]
    return [f"{indent}if {test} {{"] + [f"{indent}    {line}" for line in lines] + [f"{indent}}}"]


def joined_else(lines):
    """Puts an `else` behind the brace that it follows."""
    result = []
    for line in lines:
        if line.lstrip().startswith("else ") and result[-1].strip() == "}":
            result[-1] = f"{result[-1]} {line.lstrip()}"
        else:
            result.append(line)
    return result


# ---- files


def banner(source):
    return [f"// Generated by Tools/generate-kafka-wire.py from {source}: edit those, then `make generate`.",
            "// swift-format-ignore-file", ""]


def span(versions):
    return f"{min(versions)}...{max(versions)}"


def message_text(message, what, conformance, extra):
    """A message and its nested structs as lines of Swift."""
    first_flexible = min(message.versions & message.flexible, default=None)
    flexible = "never flexible" if first_flexible is None else f"flexible from {first_flexible}"
    low, high = min(message.versions), max(message.versions)
    header = [f"/// {what}, " + (f"version {low}" if low == high else f"versions {low} to {high}") + f", {flexible}.",
              f"package struct {message.name}: {conformance} {{"]
    header += [f"    {line}" for line in extra]
    header += [f'    package static let name = "{message.name}"',
               f"    package static let validVersions: ClosedRange<Int16> = {span(message.versions)}",
               f"    package static let firstFlexibleVersion: Int16? = "
               f"{'nil' if first_flexible is None else first_flexible}", ""]
    lines = StructWriter(message, message.root, "").text(header)
    for struct in message.nested.values():
        if not struct.versions:
            raise SchemaError(f"{message.name}.{struct.name} is in no version")
        writer = StructWriter(message, struct, "    ")
        lines += ["", f"extension {message.name} {{"]
        if struct.versions == message.versions:
            lines.append(f"    /// Part of `{message.name}`, in all versions.")
        else:
            lines.append(f"    /// Part of `{message.name}`, in {writer.describe(struct.versions)}.")
        lines += writer.text([f"package struct {struct.name}: WireStruct {{"]) + ["}"]
    return lines


def imports(lines):
    text = "\n".join(lines)
    result = []
    if "TopicID" in text:
        result.append("package import FlotillaModel")
    if "ByteBuffer" in text:
        result.append("package import struct NIOCore.ByteBuffer")
    return result + [""] if result else []


def file_text(source, lines):
    return "\n".join(banner(source) + imports(lines) + lines) + "\n"


class API:
    """One API: its key, its facts, and its two messages."""

    def __init__(self, path):
        headlines, sections = read_schema(path)
        self.key, self.name = int(headlines["api"][0]), headlines["api"][1]
        self.case = self.name[0].lower() + self.name[1:]
        self.source = path.name
        self.versions = versions_of(headlines["versions"][0])
        self.stable = versions_of(headlines["stable"][0])
        self.kafka4 = versions_of(headlines["kafka4"][0])
        self.flexible = versions_of(headlines["flexible"][0])
        self.messages = [
            Message(f"{self.name}{s.kind.capitalize()}", s, self.versions, self.flexible) for s in sections]
        self.check_headers(headlines)

    def check_headers(self, headlines):
        """`APIKey` derives header versions by a rule; a schema that departs from it must not pass."""
        for word, plain, tagged in (("request-header", 1, 2), ("response-header", 0, 1)):
            for part in headlines[word]:
                version, _, covered = part.partition("@")
                for v in versions_of(covered):
                    is_exception = word == "response-header" and self.name == "ApiVersions"
                    expected = tagged if v in self.flexible and not is_exception else plain
                    if int(version) != expected:
                        raise SchemaError(f"{self.source}: {word} {part} breaks the rule")

    def text(self):
        request, response = self.messages
        lines = message_text(request, f"{self.name} request", "KafkaRequest", [
            f"package typealias Response = {response.name}", f"package static let apiKey = APIKey.{self.case}"])
        lines += [""] + message_text(response, f"{self.name} response", "KafkaResponse", [
            f"package static let apiKey = APIKey.{self.case}"])
        return file_text(f"Schema/{self.source}", lines)


def key_text(apis):
    lines = ["/// The APIs of the protocol that clients use, by the key that requests carry.",
             "package enum APIKey: Int16, CaseIterable, Sendable {"]
    lines += [f"    case {api.case} = {api.key}" for api in apis]
    for comment, name, kind, value in (
            ("The name in Kafka's documentation.", "name", "String", lambda a: f'"{a.name}"'),
            ("All versions that the schema covers, also those that Kafka 4 dropped.",
             "versions", "ClosedRange<Int16>", lambda a: span(a.versions)),
            ("`versions` without those still marked unstable.",
             "stableVersions", "ClosedRange<Int16>", lambda a: span(a.stable)),
            ("The versions that Kafka 4 serves.",
             "kafka4Versions", "ClosedRange<Int16>", lambda a: span(a.kafka4)),
            ("From here on lengths are compact and structs end with tagged fields; nil where none does.",
             "firstFlexibleVersion", "Int16?", lambda a: str(min(a.flexible, default="nil")))):
        lines += ["", f"    /// {comment}", f"    package var {name}: {kind} {{", "        switch self {"]
        groups = {}
        for api in apis:
            groups.setdefault(value(api), []).append(f".{api.case}")
        for text, cases in groups.items():
            lines.append(f"        case {', '.join(cases)}: {text}")
        lines += ["        }", "    }"]
    return file_text("Schema/*.kmsg", lines + ["}"])


def catalog_text(apis):
    lines = ["/// Decodes any message by key and version, for tools that must treat all alike.",
             "package enum MessageCatalog {"]
    for position, what in ((0, "request"), (1, "response")):
        lines += [f"    /// The body of {'a' if what == 'request' else 'the'} {what}; `body` begins after the header.",
                  f"    package static func {what}(",
                  "        _ api: APIKey,",
                  "        version: Int16,",
                  "        body: ByteBuffer",
                  f"    ) throws(WireError) -> any Kafka{what.capitalize()} {{",
                  "        switch api {"]
        for api in apis:
            lines.append(f"        case .{api.case}: try {api.messages[position].name}(from: body, version: version)")
        lines += ["        }", "    }"] + ([""] if position == 0 else [])
    return file_text("Schema/*.kmsg", lines + ["}"])


def outputs():
    """All generated files: name to text."""
    files, apis = {}, []
    for path in sorted(SCHEMA.glob("[0-9]*.kmsg")):
        api = API(path)
        apis.append(api)
        files[f"{api.name}.swift"] = api.text()
    what = {"header": "Header", "data": "Bytes embedded in other messages", "record": "Coordinator record"}
    for path in sorted(SCHEMA.glob("[a-z]*.kmsg")):
        headlines, (section,) = read_schema(path)
        kind = next(k for k in what if k in headlines)
        message = Message(headlines[kind][0], section, versions_of(headlines["versions"][0]),
                          versions_of(headlines["flexible"][0]))
        files[f"{message.name}.swift"] = file_text(
            f"Schema/{path.name}", message_text(message, what[kind], "KafkaMessage", []))
    files["APIKey.swift"] = key_text(apis)
    files["MessageCatalog.swift"] = catalog_text(apis)
    return files


def main():
    files = outputs()
    present = {path.name: path.read_text() for path in GENERATED.glob("*.swift")}
    if sys.argv[1:] == ["--check"]:
        stale = sorted(name for name in files.keys() | present.keys() if files.get(name) != present.get(name))
        for name in stale:
            print(f"Generated/{name} is not what the schemas say: run `make generate`", file=sys.stderr)
        return 1 if stale else 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    GENERATED.mkdir(exist_ok=True)
    for name in present.keys() - files.keys():
        (GENERATED / name).unlink()
    for name, text in files.items():
        if present.get(name) != text:
            (GENERATED / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
