import FlotillaKafkaWire
public import FlotillaModel
import NIOCore

// What there is to know about consumer groups.

extension Admin {
    /// A group as a list shows it.
    public struct ListedGroup: Hashable, Sendable {
        /// Its name.
        public var name: String
        /// `Stable`, `Empty` and so on; nil where the broker is too old to say.
        public var state: String?
        /// `classic` or `consumer`, among others; nil where the broker is too old to say.
        public var kind: String?
        /// What its members speak among themselves: `consumer`, or empty where only tools have committed.
        public var protocolType: String
        /// Who coordinates it.
        public var coordinator: BrokerID
    }

    /// Groups, and which brokers did not tell theirs.
    public struct GroupList: Hashable, Sendable {
        /// By name.
        public var groups: [ListedGroup]
        /// Why a broker's groups are not among them.
        public var failures: [BrokerID: ClientError]
    }

    /// A group and its members.
    public struct DescribedGroup: Hashable, Sendable {
        /// Its name.
        public var name: String
        /// How its members and the coordinator talk; nil for other groups than those of consumers.
        public var groupProtocol: GroupProtocol?
        /// `Stable`, `Empty` and so on.
        public var state: String
        /// What its members speak among themselves.
        public var protocolType: String
        /// By what its partitions are divided; empty while they are not.
        public var assignor: String
        /// Who coordinates it.
        public var coordinator: BrokerID
        /// The epoch of a group of the consumer protocol.
        public var epoch: Int32?
        /// By id.
        public var members: [GroupMember]
    }

    /// A member of a group.
    public struct GroupMember: Hashable, Sendable {
        /// Its id.
        public var id: String
        /// Its static name.
        public var instanceID: String?
        /// What its client calls itself.
        public var clientID: String
        /// From where it connects.
        public var host: String
        /// Where it stands, if the group knows.
        public var rack: String?
        /// Its epoch, in a group of the consumer protocol.
        public var epoch: Int32?
        /// What it reads, sorted.
        public var assignment: [NamedPartition]
        /// What it is to read, in a group of the consumer protocol, sorted.
        public var target: [NamedPartition]?
    }

    // MARK: Lists

    /// Lists the groups of all brokers.
    ///
    /// - Throws: when no broker tells any.
    public func listGroups() async throws(ClientError) -> GroupList {
        let brokers = try await client.metadata(topics: []).brokers.map(\.id)
        let answers = await withTaskGroup(
            of: (BrokerID, Result<[ListedGroup], ClientError>).self
        ) { tasks in
            for broker in brokers {
                tasks.addTask { (broker, await self.groups(of: broker)) }
            }
            return await tasks.reduce(into: []) { $0.append($1) }
        }
        var list = GroupList(groups: [], failures: [:])
        for (broker, answer) in answers {
            switch answer {
            case .success(let groups): list.groups += groups
            case .failure(let error): list.failures[broker] = error
            }
        }
        if list.failures.count == brokers.count,
            let first = list.failures.min(by: { $0.key < $1.key })
        {
            throw first.value
        }
        list.groups.sort { $0.name < $1.name }
        return list
    }

    private func groups(of broker: BrokerID) async -> Result<[ListedGroup], ClientError> {
        do throws(ClientError) {
            let response = try await client.retrying { () async throws(ClientError) in
                let response = try await client.request(to: .broker(broker)) { _ in
                    ListGroupsRequest()
                }
                if let error = ClientError(
                    code: response.errorCode,
                    subject: "groups of broker \(broker)"
                ) {
                    throw error
                }
                return response
            }
            return .success(
                response.groups.map { group in
                    ListedGroup(
                        name: group.groupId,
                        state: group.groupState.isEmpty ? nil : group.groupState,
                        kind: group.groupType.isEmpty ? nil : group.groupType.lowercased(),
                        protocolType: group.protocolType,
                        coordinator: broker
                    )
                }
            )
        } catch {
            return .failure(error)
        }
    }

    // MARK: Descriptions

    /// How many groups are asked for at a time.
    private static let parallelDescriptions = 16

    /// Describes groups; `.refused(.groupIdNotFound, ...)` for those that do not exist.
    public func describeGroups(
        _ names: [String]
    ) async -> [String: Result<DescribedGroup, ClientError>] {
        await withTaskGroup(of: (String, Result<DescribedGroup, ClientError>).self) { tasks in
            var described: [String: Result<DescribedGroup, ClientError>] = [:]
            var waiting = Array(Set(names).sorted().reversed())
            for _ in 0..<Self.parallelDescriptions {
                guard let name = waiting.popLast() else { break }
                tasks.addTask { (name, await self.description(of: name)) }
            }
            while let (name, description) = await tasks.next() {
                described[name] = description
                guard let name = waiting.popLast() else { continue }
                tasks.addTask { (name, await self.description(of: name)) }
            }
            return described
        }
    }

    private func description(of name: String) async -> Result<DescribedGroup, ClientError> {
        do throws(ClientError) {
            return .success(try await describeGroup(name))
        } catch {
            return .failure(error)
        }
    }

    /// Describes a group.
    ///
    /// - Throws: `.refused(.groupIdNotFound, ...)` where there is none.
    public func describeGroup(_ name: String) async throws(ClientError) -> DescribedGroup {
        try await client.retrying { () async throws(ClientError) in
            let coordinator = try await client.findCoordinator(of: name)
            do throws(ClientError) {
                return try await describeModern(name, coordinator)
            } catch {
                switch error {
                // An older broker, or a group of the classic protocol.
                case .unsupported, .refused(.groupIdNotFound, _, _),
                    .refused(.unsupportedVersion, _, _):
                    return try await describeClassic(name, coordinator)
                default: throw error
                }
            }
        }
    }

    private func describeModern(
        _ name: String,
        _ coordinator: BrokerID
    ) async throws(ClientError) -> DescribedGroup {
        let response = try await client.request(to: .broker(coordinator)) { _ in
            ConsumerGroupDescribeRequest(groupIds: [name])
        }
        guard let group = response.groups.first(where: { $0.groupId == name }) else {
            throw .malformedResponse("ConsumerGroupDescribe leaves out group \(name)")
        }
        if let error = ClientError(
            code: group.errorCode,
            subject: "group \(name)",
            message: group.errorMessage
        ) {
            throw error
        }
        let members = group.members.map { member in
            GroupMember(
                id: member.memberId,
                instanceID: member.instanceId,
                clientID: member.clientId,
                host: Self.host(member.clientHost),
                rack: member.rackId,
                epoch: member.memberEpoch,
                assignment: Self.partitions(member.assignment),
                target: Self.partitions(member.targetAssignment)
            )
        }
        return DescribedGroup(
            name: name,
            groupProtocol: .consumer,
            state: group.groupState,
            protocolType: "consumer",
            assignor: group.assignorName,
            coordinator: coordinator,
            epoch: group.groupEpoch,
            members: members.sorted { $0.id < $1.id }
        )
    }

    private static func partitions(
        _ assignment: ConsumerGroupDescribeResponse.Assignment
    ) -> [NamedPartition] {
        assignment.topicPartitions.flatMap { topic in
            topic.partitions.map { NamedPartition(topic: topic.topicName, index: $0) }
        }.sorted()
    }

    private func describeClassic(
        _ name: String,
        _ coordinator: BrokerID
    ) async throws(ClientError) -> DescribedGroup {
        let response = try await client.request(to: .broker(coordinator)) { _ in
            DescribeGroupsRequest(groups: [name])
        }
        guard let group = response.groups.first(where: { $0.groupId == name }) else {
            throw .malformedResponse("DescribeGroups leaves out group \(name)")
        }
        // Older versions know no error for a group that does not exist.
        let isDead = group.errorCode == 0 && group.groupState == "Dead"
        let code = isDead ? ErrorCode.groupIdNotFound.rawValue : group.errorCode
        if let error = ClientError(code: code, subject: "group \(name)") { throw error }
        let isOfConsumers = group.protocolType == "consumer" || group.protocolType.isEmpty
        var members: [GroupMember] = []
        for member in group.members {
            let share = isOfConsumers ? member.memberAssignment : ByteBuffer()
            do throws(WireError) {
                members.append(
                    GroupMember(
                        id: member.memberId,
                        instanceID: member.groupInstanceId,
                        clientID: member.clientId,
                        host: Self.host(member.clientHost),
                        assignment: try MemberAssignment.partitions(share).sorted()
                    )
                )
            } catch {
                throw .malformedResponse("assignment of \(member.memberId): \(error)")
            }
        }
        return DescribedGroup(
            name: name,
            groupProtocol: isOfConsumers ? .classic : nil,
            state: group.groupState,
            protocolType: group.protocolType,
            assignor: group.protocolData,
            coordinator: coordinator,
            members: members.sorted { $0.id < $1.id }
        )
    }

    /// Java writes addresses with a slash before them, and so does whoever speaks to Java.
    private static func host(_ text: String) -> String {
        text.hasPrefix("/") ? String(text.dropFirst()) : text
    }

    // MARK: Ends

    /// Deletes groups without members, with all that they have committed; nil stands for success.
    public func deleteGroups(_ names: [String]) async -> [String: ClientError?] {
        var outcomes: [String: ClientError?] = [:]
        for name in names {
            do throws(ClientError) {
                let response = try await client.onCoordinator(of: name) { (_: Int16) in
                    DeleteGroupsRequest(groupsNames: [name])
                } code: { response in
                    response.results.first?.errorCode ?? 0
                }
                let error = ClientError(
                    code: response.results.first?.errorCode ?? 0,
                    subject: "group \(name)"
                )
                outcomes.updateValue(error, forKey: name)
            } catch {
                outcomes.updateValue(error, forKey: name)
            }
        }
        return outcomes
    }
}
