package com.github.sstone.amqp.proxy

import akka.actor.{Actor, ActorSystem, Props, Status}
import akka.pattern.ask
import akka.util.Timeout
import com.github.sstone.amqp.Amqp._
import com.github.sstone.amqp.proxy.calculator.{Calculator => protobuf}
import com.github.sstone.amqp.proxy.{calculator => thrift}
import com.github.sstone.amqp.{Amqp, ConnectionOwner, RpcServer}

import scala.concurrent.Await
import scala.concurrent.duration._

class Calculator extends Actor {
  import com.github.sstone.amqp.proxy.Demo._

  override def receive: Receive = {
    case AddRequest(x, y) => sender() ! AddResponse(x, y, x + y)
    case DivideRequest(x, y) => answer(DivideResponse(divide(x, y)))
    case r: protobuf.AddRequest =>
      sender() ! protobuf.AddResponse.newBuilder.setX(r.getX).setY(r.getY).setSum(r.getX + r.getY).build()
    case r: protobuf.DivideRequest =>
      answer(protobuf.DivideResponse.newBuilder.setQuotient(divide(r.getX, r.getY)).build())
    case r: thrift.AddRequest => sender() ! new thrift.AddResponse(r.x, r.y, r.x + r.y)
    case r: thrift.DivideRequest => answer(new thrift.DivideResponse(divide(r.x, r.y)))
  }

  private def divide(x: Int, y: Int): Double =
    if (y == 0) throw new ArithmeticException("/ by zero") else x.toDouble / y

  /** Who asks an actor learns of a failure only if he is told; otherwise he waits in vain. */
  private def answer(response: => AnyRef): Unit =
    sender() ! (try response catch { case error: ArithmeticException => Status.Failure(error) })
}

object Worker extends App {
  implicit val timeout: Timeout = 30.seconds
  val system = ActorSystem("worker")
  import system.dispatcher

  val service = args.lift(1).getOrElse("calculator")
  val calculator = system.actorOf(Props[Calculator], "calculator")
  val connection = system.actorOf(ConnectionOwner.props(Demo.connectionFactory(args)), "connection")
  val server = ConnectionOwner.createChildActor(
    connection,
    RpcServer.props(new AmqpProxy.Server(calculator), channelParams = Some(ChannelParameters(qos = 8))))
  Amqp.waitForConnection(system, server).await()

  // All workers of a pool declare their queue alike: this one goes when the last of them does. What is recorded is done
  // again when a lost connection is back.
  val queue = QueueParameters(service, passive = false, durable = false, autodelete = true)
  Await.result(server ? Record(AddBinding(Binding(StandardExchanges.amqDirect, queue, service))), 10.seconds) match {
    case Amqp.Ok(_, _) => println("ready")
    case Amqp.Error(_, reason) => throw reason
  }

  // With the connection's end, what is not answered yet goes to another worker.
  sys.addShutdownHook {
    system.shutdown()
    system.awaitTermination(10.seconds)
  }
}
