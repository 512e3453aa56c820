package com.github.sstone.amqp.proxy

import java.nio.charset.StandardCharsets.UTF_8

import com.google.protobuf.Message
import com.rabbitmq.client.AMQP.BasicProperties
import org.apache.thrift.{TBase, TDeserializer, TSerializer}
import org.json4s.NoTypeHints
import org.json4s.jackson.{Serialization => Json}
import org.xerial.snappy.Snappy

/** Messages to and from bytes: content-encoding names the format, content-type the class. */
object Serialization {
  private implicit val formats = Json.formats(NoTypeHints)
  private val Snapped = "snappy-(.+)".r

  def write(message: AnyRef, encoding: String): (Array[Byte], BasicProperties) = {
    val properties = new BasicProperties.Builder()
      .contentEncoding(encoding).contentType(message.getClass.getName).deliveryMode(1).build()
    (toBytes(message, encoding), properties)
  }

  def read(body: Array[Byte], properties: BasicProperties): AnyRef = {
    val name = Option(properties.getContentType)
    require(name.isDefined, "the message has no content-type")
    fromBytes(body, Class.forName(name.get), encodingOf(properties))
  }

  /** Who says nothing means JSON. */
  def encodingOf(properties: BasicProperties): String =
    Option(properties.getContentEncoding).filter(_.nonEmpty).getOrElse("json")

  private def toBytes(message: AnyRef, encoding: String): Array[Byte] = (encoding, message) match {
    case (Snapped(inner), _) => Snappy.compress(toBytes(message, inner))
    case ("json", _) => Json.write(message).getBytes(UTF_8)
    case ("protobuf", message: Message) => message.toByteArray
    // A TSerializer is not for several threads, and cheap.
    case ("thrift", struct: TBase[_, _]) => new TSerializer().serialize(struct)
    case _ => throw new IllegalArgumentException(s"a ${message.getClass.getName} cannot be written as $encoding")
  }

  private def fromBytes(body: Array[Byte], kind: Class[_], encoding: String): AnyRef = encoding match {
    case Snapped(inner) => fromBytes(Snappy.uncompress(body), kind, inner)
    case "json" => Json.read(new String(body, UTF_8))(formats, Manifest.classType(kind))
    case "protobuf" => kind.getMethod("parseFrom", classOf[Array[Byte]]).invoke(null, body)
    case "thrift" =>
      kind.getConstructor().newInstance() match {
        case struct: TBase[_, _] => new TDeserializer().deserialize(struct, body); struct
        case _ => throw new IllegalArgumentException(s"${kind.getName} is no struct of Thrift")
      }
    case _ => throw new IllegalArgumentException(s"there is no encoding $encoding here")
  }
}
