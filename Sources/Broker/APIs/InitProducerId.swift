import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// InitProducerId (22): ids for idempotent producers. SEMANTICS section 1.3.
extension Shard {
    func handle(_ request: InitProducerIdRequest, _ context: RequestContext) {
        if let transactionalID = request.transactionalId {
            // PID-2, PID-3: no broker coordinates transactions yet.
            let error: ErrorCode = transactionalID.isEmpty ? .invalidRequest : .notCoordinator
            return context.respond(
                InitProducerIdResponse(errorCode: error.rawValue, producerEpoch: -1)
            )
        }
        // PID-4.
        guard (request.producerId < 0) == (request.producerEpoch < 0) else {
            return context.respond(
                InitProducerIdResponse(
                    errorCode: ErrorCode.invalidRequest.rawValue,
                    producerEpoch: -1
                )
            )
        }
        takeProducerID { result in
            switch result {
            case .success(let id):
                context.respond(InitProducerIdResponse(producerId: id.rawValue, producerEpoch: 0))
            case .failure(let refusal):
                context.respond(
                    InitProducerIdResponse(errorCode: refusal.code.rawValue, producerEpoch: -1)
                )
            }
        }
    }

    /// Gives the next id of this shard's block; when it runs out, whoever comes waits for the next block.
    private func takeProducerID(then completion: @escaping (Result<ProducerID, Refusal>) -> Void) {
        if let id = producerIDs.take() {
            completion(.success(id))
        } else {
            producerIDWaiters.append(completion)
        }
        guard producerIDs.shouldAsk() else { return }
        ask(0, .metadata(.allocateProducerIDs)) { [unowned self] reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            let waiters = self.producerIDWaiters
            self.producerIDWaiters.removeAll()
            if case .producerIDs(let block) = reply {
                self.producerIDs.accept(block)
                for waiter in waiters { self.takeProducerID(then: waiter) }
            } else {
                self.producerIDs.askFailed()
                let refusal = Refusal(
                    .coordinatorLoadInProgress,
                    "no producer ids could be had; try again"
                )
                for waiter in waiters { waiter(.failure(refusal)) }
            }
        }
    }
}
