package com.github.sstone.amqp.proxy

import akka.actor.{Actor, ActorRef, Status}
import akka.pattern.{ask, pipe}
import akka.util.Timeout
import com.github.sstone.amqp.Amqp.{Delivery, Publish}
import com.github.sstone.amqp.RpcServer.ProcessResult
import com.github.sstone.amqp.{RpcClient, RpcServer}

import scala.concurrent.Future
import scala.util.Try

/** What a worker answered that failed. */
class AmqpProxyException(message: String, val throwableAsString: String) extends RuntimeException(message)

/** Actors at two ends of a queue: what is asked of a Client here is asked of the Server's actor there. */
object AmqpProxy {
  /** The reply of a worker that failed: always JSON. Its class name is part of the protocol. */
  case class ServerFailure(message: String, throwableAsString: String)

  class Server(actor: ActorRef)(implicit timeout: Timeout) extends RpcServer.IProcessor {
    import scala.concurrent.ExecutionContext.Implicits.global

    override def process(delivery: Delivery): Future[ProcessResult] =
      for {
        request <- Future.fromTry(Try(Serialization.read(delivery.body, delivery.properties)))
        response <- (actor ? request).mapTo[AnyRef]
      } yield result(response, Serialization.encodingOf(delivery.properties))

    /** RpcServer asks for this when a request failed for the second time; the first time it goes back to the queue. */
    override def onFailure(delivery: Delivery, error: Throwable): ProcessResult =
      result(ServerFailure(error.getMessage, error.toString), "json")

    private def result(message: AnyRef, encoding: String) = {
      val (body, properties) = Serialization.write(message, encoding)
      ProcessResult(Some(body), Some(properties))
    }
  }

  class Client(rpc: ActorRef, exchange: String, key: String, encoding: String)(implicit timeout: Timeout) extends Actor {
    import context.dispatcher

    override def receive: Receive = {
      case message: AnyRef =>
        val answer = Future.fromTry(Try(Serialization.write(message, encoding))).flatMap {
          case (body, properties) => rpc ? RpcClient.Request(Publish(exchange, key, body, Some(properties), mandatory = true))
        }
        answer.map(read).pipeTo(sender())
    }

    private def read(answer: Any): Any = answer match {
      case RpcClient.Response(delivery :: _) =>
        Serialization.read(delivery.body, delivery.properties) match {
          case ServerFailure(message, cause) => Status.Failure(new AmqpProxyException(message, cause))
          case response => response
        }
      case RpcClient.Undelivered(returned) =>
        Status.Failure(new IllegalStateException(s"no worker takes $key: ${returned.replyText}"))
    }
  }
}
