"""Publishing and reading plain messages, without tasks or a worker.

``python plain_messages.py amqp://localhost``; without a URL it uses the file orders.db.
"""

import sys

from engine import Consumer, Producer, Queue

broker = sys.argv[1] if len(sys.argv) > 1 else "sqlite:///orders.db"
orders = Queue(sys.argv[2] if len(sys.argv) > 2 else "orders")

with Producer(broker) as producer:
    bodies = [{"order": number} for number in range(100)]
    outcomes = producer.publish_many(bodies, routing_key=orders.name, declare=[orders])
    print(outcomes.count(None), "confirmed")

total = 0
with Consumer(broker, [orders]) as consumer:
    for done, (body, message) in enumerate(consumer, 1):
        total += body["order"]
        message.ack()
        if done == 100:
            break
print("sum of the numbers:", total)
